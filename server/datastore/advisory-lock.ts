import { sql } from 'drizzle-orm';
import type { Database } from './datastore.ts';

/**
 * Holds names against other transactions until the end of this one: who wants the same name waits. Take all names of a transaction in one call;
 * they are locked in one order, so that two transactions never wait for each other.
 */
export async function lockNames(db: Database, names: readonly string[]): Promise<void> {
  for (const name of [...new Set(names)].toSorted())
    await db.execute(sql`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`);
}
