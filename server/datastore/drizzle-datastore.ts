import { randomBytes } from 'node:crypto';
import { appendChanges, ChangeCollector, readPosition, replaceEpoch } from './change-log.ts';
import { isRepeatable, toDatabaseError } from './database-error.ts';
import type { Database, Datastore, Position, Transaction } from './datastore.ts';

/** How often a transaction runs in all before its serialization failure is the caller's. */
const MAX_ATTEMPTS = 5;

/** What differs between the adapters. */
export interface Driver {
  readonly db: Database;
  /** Called after each commit that may have grown the log, for a database that no other process can write to. */
  readonly committed?: () => void;
  /** Called before anything is written; throws where the database could not take it. */
  readonly requireRoom?: () => void;
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}

/** The datastore as both adapters have it: only the driver below differs. */
export class DrizzleDatastore implements Datastore {
  readonly #driver: Driver;

  constructor(driver: Driver) {
    this.#driver = driver;
  }

  get db(): Database {
    return this.#driver.db;
  }

  async write<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    this.#driver.requireRoom?.();
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#writeOnce(work);
      } catch (error) {
        if (attempt >= MAX_ATTEMPTS || !isRepeatable(error)) throw toDatabaseError(error);
      }
    }
  }

  async readSnapshot<T>(work: (db: Database) => Promise<T>): Promise<T> {
    const options = { isolationLevel: 'repeatable read', accessMode: 'read only' } as const;
    return await this.#driver.db.transaction(work, options).catch((error: unknown) => {
      throw toDatabaseError(error);
    });
  }

  onChange(listener: () => void): () => void {
    return this.#driver.onChange(listener);
  }

  async position(): Promise<Position> {
    return await readPosition(this.#driver.db);
  }

  async beginEpoch(): Promise<string> {
    this.#driver.requireRoom?.();
    const epoch = newEpoch();
    await replaceEpoch(this.#driver.db, epoch);
    this.#driver.committed?.();
    return epoch;
  }

  async close(): Promise<void> {
    await this.#driver.close();
  }

  async #writeOnce<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    const { result, hasChanges } = await this.#driver.db.transaction(async (db) => {
      const collector = new ChangeCollector(db);
      const result = await work(collector);
      await appendChanges(db, collector.changes);
      return { result, hasChanges: collector.changes.length > 0 };
    });
    if (hasChanges) this.#driver.committed?.();
    return result;
  }
}

/** A name that no other life of a database has. */
export function newEpoch(): string {
  return randomBytes(16).toString('hex');
}
