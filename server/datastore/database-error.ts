import { PicketError } from '../../shared/errors/errors.ts';

/** SQLSTATE: serialization_failure and deadlock_detected; the transaction left nothing and may be run again. */
const REPEATABLE = new Set(['40001', '40P01']);

/** Error codes of sockets and of postgres.js that mean that no database answers. */
const UNREACHABLE = new Set([
  'CONNECTION_CLOSED',
  'CONNECTION_DESTROYED',
  'CONNECTION_ENDED',
  'CONNECT_TIMEOUT',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
]);

/** SQLSTATE disk_full, and what it is where the file system says it first. */
const FULL = new Set(['53100', 'ENOSPC']);

/** Whether the transaction that failed with `error` may simply be run again. */
export function isRepeatable(error: unknown): boolean {
  return REPEATABLE.has(codeOf(error) ?? '');
}

/** Whether `error` says that a unique index (`constraint`, or any) already holds such a row. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  const found = databaseErrorOf(error);
  if (found?.code !== '23505') return false;
  return constraint === undefined || found.constraint === constraint || found.constraint_name === constraint;
}

/**
 * What a caller may see of a failure of the database: `unavailable`/`database_unavailable` when it cannot be reached, `unavailable`/`database_full`
 * when its disk is full, `invalid_argument`/`text_not_storable` for a NUL character in a text. Anything else comes back as it is.
 */
export function toDatabaseError(error: unknown): unknown {
  if (error instanceof PicketError) return error;
  const code = codeOf(error) ?? '';
  // Class 08 is connection exceptions, 57P01 to 57P03 a server that stops or starts.
  if (UNREACHABLE.has(code) || code.startsWith('08') || /^57P0[123]$/.test(code))
    return new PicketError('unavailable', 'database_unavailable', 'The database cannot be reached', {
      cause: error,
    });
  if (FULL.has(code))
    return new PicketError('unavailable', 'database_full', 'The disk of the database is full', {
      cause: error,
    });
  if (code === '22021' || code === '22P05')
    return new PicketError('invalid_argument', 'text_not_storable', 'A text holds a NUL character', {
      cause: error,
    });
  return error;
}

interface DatabaseError {
  readonly code: string;
  /** PGlite's name for the constraint. */
  readonly constraint?: string;
  /** postgres.js's name for the constraint. */
  readonly constraint_name?: string;
}

function codeOf(error: unknown): string | undefined {
  return databaseErrorOf(error)?.code;
}

/** drizzle wraps what the driver threw. */
function databaseErrorOf(error: unknown): DatabaseError | undefined {
  for (let current: unknown = error, depth = 0; current instanceof Error && depth < 4; depth += 1) {
    if ('code' in current && typeof current.code === 'string') return current as unknown as DatabaseError;
    current = current.cause;
  }
  return undefined;
}
