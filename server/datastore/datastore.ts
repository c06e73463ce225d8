import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core';
import type { SyncKind } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type * as schema from './schema.ts';

/** A drizzle handle on the schema: the same for PostgreSQL and PGlite, inside and outside a transaction. */
export type Database = PgDatabase<PgQueryResultHKT, typeof schema>;

/** What a change is of: something that agents receive, or a node whose own standing changed, so that its stream must look again. */
export type ChangeKind = SyncKind | 'node';

/** An object that a transaction changed and that running streams must learn of. */
export interface ObjectChange {
  readonly kind: ChangeKind;
  readonly key: string;
  /** The one agent whom the change concerns; absent: every agent. An entry that moves from one parent to another is a change for each. */
  readonly scope?: SpiffeId;
}

/** What a writing transaction gets: the database, and the list of what it changed. */
export interface Transaction {
  readonly db: Database;
  /** Notes that agents must learn of the object. The log rows are written last in the transaction, the wake-up is sent at commit. */
  readonly changed: (change: ObjectChange) => void;
}

/** Where a change log stands. */
export interface Position {
  /** Which life of the database this is: restoring a backup begins a new one. */
  readonly epoch: string;
  /** The number of the newest change; they are numbered in the order of commit, without gaps. */
  readonly sequence: number;
}

/**
 * The server's memory. Port: adapters are `postgres.ts` and `pglite.ts`; `contract.ts` is the suite for both.
 */
export interface Datastore {
  /** For reading. Writing through it is a mistake: agents would never hear of it. Inside `write` use the transaction's, or PGlite waits for itself. */
  readonly db: Database;
  /**
   * Runs `work` in one transaction (read committed, counter row locked last) and repeats it, up to five times in all, after a serialization
   * failure or deadlock: `work` must have no effect but on the database. Throws what `work` throws; `unavailable`, reason `database_unavailable`,
   * when the database cannot be reached.
   */
  write<T>(work: (transaction: Transaction) => Promise<T>): Promise<T>;
  /** Runs `work` on one snapshot of the database, so that everything that it reads belongs together. */
  readSnapshot<T>(work: (db: Database) => Promise<T>): Promise<T>;
  /** Calls `listener` whenever the change log may have grown, also after a lost connection; the returned function ends it. */
  onChange(listener: () => void): () => void;
  /** The epoch of this database and the number of the newest change. */
  position(): Promise<Position>;
  /** Begins a new epoch, as after restoring a backup: no agent resumes over it. Returns its name. */
  beginEpoch(): Promise<string>;
  /** Closes connections; what was committed stays. Closing twice is harmless. */
  close(): Promise<void>;
}
