import { createHash, type Hash } from 'node:crypto';
import { getTableName, is, sql } from 'drizzle-orm';
import { PgTable } from 'drizzle-orm/pg-core';
import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { replaceEpoch } from './change-log.ts';
import { isUniqueViolation } from './database-error.ts';
import type { Database, Datastore } from './datastore.ts';
import { newEpoch } from './drizzle-datastore.ts';
import { schemaDigest } from './migrations.ts';
import { rowsOf } from './rows.ts';
import * as schema from './schema.ts';

/**
 * A backup is lines of JSON: a head, each row of each table, and a tail that tells a whole backup from one that was cut. It is the same for
 * PostgreSQL and PGlite, so that it is also the way from the one to the other. Keys of the certificate authority are not in it.
 *
 *   {"picket_backup":1,"trust_domain":…,"schema":…}
 *   ["registration_entries",{…}]                        one a row
 *   {"rows":…,"sha256":…}                               over all lines before, newlines included
 */
const FORMAT = 1;

/** Rows that are read or written at once, and the most text that waits to be written, in characters. */
const ROWS_AT_ONCE = 200;
const CHARACTERS_AT_ONCE = 4 * 1024 * 1024;

const head = z.object({ picket_backup: z.literal(FORMAT), trust_domain: z.string(), schema: z.string() });
const tail = z.object({ rows: z.number(), sha256: z.string() });
const row = z.tuple([z.string(), z.record(z.string(), z.unknown())]);

/** Writes a backup of one moment, a line (without its newline) at a time; the server goes on meanwhile. Throws what `write` throws. */
export async function writeBackup(
  datastore: Datastore,
  write: (line: string) => Promise<void>,
): Promise<void> {
  const hash = createHash('sha256');
  let rows = 0;
  const add = async (line: string): Promise<void> => {
    hash.update(`${line}\n`);
    await write(line);
  };
  await datastore.readSnapshot(async (db) => {
    await add(
      JSON.stringify({
        picket_backup: FORMAT,
        trust_domain: await trustDomainOf(db),
        schema: schemaDigest(),
      }),
    );
    for (const table of TABLES)
      for await (const text of rowsOfTable(db, table)) {
        rows += 1;
        await add(`[${JSON.stringify(table)},${text}]`);
      }
  });
  await write(JSON.stringify({ rows, sha256: hash.digest('hex') }));
}

/**
 * Fills an empty database from the lines of a backup, all or nothing, and begins a new epoch, so that every agent gets a snapshot. Throws
 * `failed_precondition`: `database_not_empty`, `trust_domain_mismatch`, `backup_schema_mismatch` (restore with the version that made it, then
 * upgrade); `invalid_argument`, reason `backup_invalid`, for one that is damaged or cut.
 */
export async function restoreBackup(datastore: Datastore, lines: AsyncIterable<string>): Promise<void> {
  await datastore.write(async ({ db }) => {
    const restore = new Restore(db);
    for await (const line of lines) await restore.take(line);
    await restore.finish();
    await replaceEpoch(db, newEpoch());
  });
}

const TABLES: readonly string[] = Object.values(schema)
  .filter((value) => is(value, PgTable))
  .map((table) => getTableName(table));

/** A restoration while it runs, in one transaction. */
class Restore {
  readonly #db: Database;
  readonly #hash: Hash = createHash('sha256');
  #state: 'head' | 'rows' | 'done' = 'head';
  #rows = 0;
  #table = '';
  #waiting: string[] = [];
  #waitingCharacters = 0;

  constructor(db: Database) {
    this.#db = db;
  }

  async take(line: string): Promise<void> {
    if (line === '') return;
    const value = parseLine(line);
    if (this.#state === 'done') throw damaged('something follows its end');
    if (this.#state === 'head') await this.#begin(value);
    else if (!Array.isArray(value)) return await this.#end(value);
    else await this.#addRow(value, line);
    this.#hash.update(`${line}\n`);
  }

  async finish(): Promise<void> {
    if (this.#state !== 'done') throw damaged('its end is missing');
    await this.#db.execute(
      sql`select setval(pg_get_serial_sequence('operator_log', 'id'), (select coalesce(max(id), 0) + 1 from operator_log), false)`,
    );
  }

  async #begin(value: unknown): Promise<void> {
    const parsed = head.safeParse(value);
    if (!parsed.success) throw damaged('it does not begin as one');
    if (parsed.data.schema !== schemaDigest())
      throw refused('backup_schema_mismatch', 'The backup is of another version of the database schema');
    const owner = await trustDomainOf(this.#db);
    if (parsed.data.trust_domain !== owner)
      throw refused(
        'trust_domain_mismatch',
        `The backup is of trust domain "${parsed.data.trust_domain}", the database of "${owner}"`,
      );
    await this.#requireEmpty();
    await this.#db.execute(sql`delete from cluster`);
    this.#state = 'rows';
  }

  async #addRow(value: unknown, line: string): Promise<void> {
    const parsed = row.safeParse(value);
    if (!parsed.success || !TABLES.includes(parsed.data[0]))
      throw damaged(`line ${this.#rows + 2} is no row`);
    const [table] = parsed.data;
    const start = `[${JSON.stringify(table)},`;
    if (!line.startsWith(start)) throw damaged(`line ${this.#rows + 2} is spelled differently`);
    if (table !== this.#table) await this.#flush();
    this.#table = table;
    // The text itself: a number must not go through a double.
    this.#waiting.push(line.slice(start.length, -1));
    this.#waitingCharacters += line.length;
    this.#rows += 1;
    if (this.#waiting.length >= ROWS_AT_ONCE || this.#waitingCharacters >= CHARACTERS_AT_ONCE)
      await this.#flush();
  }

  async #end(value: unknown): Promise<void> {
    const parsed = tail.safeParse(value);
    const isWhole = parsed.success && parsed.data.rows === this.#rows;
    if (!isWhole || parsed.data.sha256 !== this.#hash.digest('hex'))
      throw damaged('its checksum does not fit');
    await this.#flush();
    this.#state = 'done';
  }

  async #flush(): Promise<void> {
    if (this.#waiting.length === 0) return;
    const rows = `[${this.#waiting.join(',')}]`;
    const table = sql.identifier(this.#table);
    this.#waiting = [];
    this.#waitingCharacters = 0;
    await this.#db
      .execute(
        sql`insert into ${table} overriding system value select * from json_populate_recordset(null::${table}, ${rows}::text::json)`,
      )
      .catch((error: unknown) => {
        throw isUniqueViolation(error) ? damaged('it holds a row twice') : error;
      });
  }

  async #requireEmpty(): Promise<void> {
    for (const table of TABLES) {
      if (table === 'cluster') continue;
      const found = await this.#db.execute(sql`select 1 from ${sql.identifier(table)} limit 1`);
      if (rowsOf(found).length > 0)
        throw refused('database_not_empty', `The database is not empty: there are rows in "${table}"`);
    }
  }
}

async function* rowsOfTable(db: Database, table: string): AsyncGenerator<string, void, void> {
  await db.execute(
    sql`declare backup no scroll cursor for select row_to_json(t)::text as row from ${sql.identifier(table)} t`,
  );
  for (;;) {
    const fetched = rowsOf<{ row: string }>(await db.execute(sql.raw(`fetch ${ROWS_AT_ONCE} from backup`)));
    for (const { row } of fetched) yield row;
    if (fetched.length < ROWS_AT_ONCE) break;
  }
  await db.execute(sql`close backup`);
}

async function trustDomainOf(db: Database): Promise<string> {
  const rows = rowsOf<{ trust_domain: string }>(
    await db.execute(sql`select trust_domain from cluster where id = 1`),
  );
  return rows[0]?.trust_domain ?? '';
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw damaged('a line is not JSON');
  }
}

function damaged(why: string): PicketError {
  return new PicketError('invalid_argument', 'backup_invalid', `Cannot restore the backup: ${why}`);
}

function refused(reason: string, message: string): PicketError {
  return new PicketError('failed_precondition', reason, message);
}
