/** The rows of `db.execute`: postgres.js gives an array, PGlite an object that holds one. The caller vouches for the shape. */
export function rowsOf<Row>(result: unknown): readonly Row[] {
  if (Array.isArray(result)) return result as Row[];
  if (typeof result === 'object' && result !== null && 'rows' in result && Array.isArray(result.rows))
    return result.rows as Row[];
  throw new TypeError('The database driver gave no rows');
}
