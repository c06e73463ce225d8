import { sql } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { toDatabaseError } from './database-error.ts';
import type { Database, Datastore, Position, Transaction } from './datastore.ts';

/** What is tried apart: a full disk lets a database be read that takes nothing more. */
type Direction = 'read' | 'write';

/** A datastore that remembers whether the database does its work, and says when that changes. */
export class WatchedDatastore implements Datastore {
  readonly #datastore: Datastore;
  readonly #log: Log;
  readonly #failures = new Map<Direction, PicketError>();

  constructor(datastore: Datastore, log: Log) {
    this.#datastore = datastore;
    this.#log = log;
  }

  /** What the last reading or writing failed with, if it was the database that failed; undefined when both went well. */
  get failure(): PicketError | undefined {
    return this.#failures.get('write') ?? this.#failures.get('read');
  }

  /** Makes sure that the database can be read, and written if it could not be the last time. Throws what it fails with. */
  async check(): Promise<Position> {
    const position = await this.position();
    if (this.#failures.has('write'))
      await this.write(async ({ db }) => await db.execute(sql`update cluster set id = id where id = 1`));
    return position;
  }

  get db(): Database {
    return this.#datastore.db;
  }

  async write<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    return await this.#watch('write', async () => await this.#datastore.write(work));
  }

  async readSnapshot<T>(work: (db: Database) => Promise<T>): Promise<T> {
    return await this.#watch('read', async () => await this.#datastore.readSnapshot(work));
  }

  onChange(listener: () => void): () => void {
    return this.#datastore.onChange(listener);
  }

  async position(): Promise<Position> {
    return await this.#watch('read', async () => await this.#datastore.position());
  }

  async beginEpoch(): Promise<string> {
    return await this.#watch('write', async () => await this.#datastore.beginEpoch());
  }

  async close(): Promise<void> {
    await this.#datastore.close();
  }

  async #watch<T>(direction: Direction, work: () => Promise<T>): Promise<T> {
    try {
      const result = await work();
      this.#recovered(direction);
      return result;
    } catch (cause) {
      const error = toDatabaseError(cause);
      if (isOfDatabase(error)) this.#failed(direction, error);
      throw error;
    }
  }

  #failed(direction: Direction, error: PicketError): void {
    const known = this.#failures.get(direction);
    this.#failures.set(direction, error);
    if (known?.reason !== error.reason)
      this.#log.error('database_failed', { direction, reason: error.reason, error });
  }

  #recovered(direction: Direction): void {
    if (this.#failures.delete(direction)) this.#log.info('database_recovered', { direction });
  }
}

function isOfDatabase(error: unknown): error is PicketError {
  return error instanceof PicketError && ['database_unavailable', 'database_full'].includes(error.reason);
}
