import { getTableColumns, sql } from 'drizzle-orm';
import type { PgColumn, PgTable } from 'drizzle-orm/pg-core';
import type { Database } from './datastore.ts';

/** A row that says each column, those with a default too; a time as ISO 8601: JavaScript writes JSON at half the speed as soon as a `Date` is in it. */
export type WholeRow<Table extends PgTable> = {
  readonly [Key in keyof Table['$inferSelect']]: Table['$inferSelect'][Key] extends Date
    ? string
    : Table['$inferSelect'][Key];
};

/**
 * Inserts rows, however many, by one parameter, which the database takes apart by the types of the schema: a parameter for each value costs this process many times as much. For columns whose values are written alike
 * by JSON and by PostgreSQL: texts, numbers, booleans, times, arrays of them. The database refuses a text with a NUL or half a surrogate pair in it.
 */
export async function insertRows<Table extends PgTable>(
  db: Database,
  table: Table,
  rows: readonly WholeRow<Table>[],
): Promise<void> {
  const columns = Object.entries<PgColumn>(getTableColumns(table));
  const listed = sql.raw(', ');
  const names = sql.join(
    columns.map(([, { name }]) => sql.identifier(name)),
    listed,
  );
  const keys = sql.join(
    columns.map(([key]) => sql.identifier(key)),
    listed,
  );
  const types = sql.join(
    columns.map(([key, column]) => sql`${sql.identifier(key)} ${sql.raw(column.getSQLType())}`),
    listed,
  );
  await db.execute(
    sql`insert into ${table} (${names}) select ${keys} from json_to_recordset(${JSON.stringify(rows)}::text::json) as rows(${types})`,
  );
}
