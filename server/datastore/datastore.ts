import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core';
import type { SyncKind } from '../../shared/protocol/sync.ts';
import type * as schema from './schema.ts';

/** A drizzle handle on the schema: the same for PostgreSQL and PGlite, inside and outside a transaction. */
export type Database = PgDatabase<PgQueryResultHKT, typeof schema>;

/** An object that agents learn of and that a transaction changed. */
export interface ObjectChange {
  readonly kind: SyncKind;
  readonly key: string;
}

/** What a writing transaction gets: the database, and the list of what it changed. */
export interface Transaction {
  readonly db: Database;
  /** Notes that agents must learn of the object. The log row is written last in the transaction, the wake-up is sent at commit. */
  changed(change: ObjectChange): void;
}

/**
 * The server's memory. Port: adapters are `postgres.ts` and `pglite.ts`; `contract.ts` is the suite for both.
 */
export interface Datastore {
  /** For reading. Writing through it is a mistake: agents would never hear of it. */
  readonly db: Database;
  /** Runs `work` in one serializable-enough transaction (read committed, counter row locked last) and retries it on serialization failures. */
  write<T>(work: (transaction: Transaction) => Promise<T>): Promise<T>;
  /** Calls `listener` whenever the change log may have grown, also after a lost connection; the returned function ends it. */
  onChange(listener: () => void): () => void;
  /** The epoch of this database and the number of the newest change. */
  position(): Promise<{ readonly epoch: string; readonly sequence: number }>;
  /** Closes connections; what was committed stays. */
  close(): Promise<void>;
}
