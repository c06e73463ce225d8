import { sql } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Database, ObjectChange, Position, Transaction } from './datastore.ts';
import { rowsOf } from './rows.ts';

/** The channel of LISTEN and NOTIFY on which a server hears of commits. */
export const CHANGE_CHANNEL = 'picket_change';

/** Collects what one run of a transaction changed, each object once, in the order of the first mention. */
export class ChangeCollector implements Transaction {
  readonly db: Database;
  readonly #changes = new Map<string, ObjectChange>();

  constructor(db: Database) {
    this.db = db;
  }

  readonly changed = (change: ObjectChange): void => {
    this.#changes.set(JSON.stringify([change.kind, change.key, change.scope]), change);
  };

  get changes(): readonly ObjectChange[] {
    return [...this.#changes.values()];
  }
}

/**
 * Writes the log rows and asks for the wake-up at commit. It must be the last statement of its transaction: from here the counter row is locked
 * until the commit, so that numbers have no gaps and their order is the order of the commits.
 */
export async function appendChanges(db: Database, changes: readonly ObjectChange[]): Promise<void> {
  if (changes.length === 0) return;
  // One text instead of arrays: the two drivers spell arrays differently, and neither touches a text.
  const items = JSON.stringify(changes);
  await db.execute(sql`
    with counter as (
      update cluster set change_counter = change_counter + ${changes.length} where id = 1 returning change_counter
    ), logged as (
      insert into change_log (sequence, kind, key, scope)
      select counter.change_counter - ${changes.length} + item.position,
        item.value->>'kind', item.value->>'key', item.value->>'scope'
      from counter, json_array_elements(${items}::text::json) with ordinality as item (value, position)
    )
    select pg_notify(${CHANGE_CHANNEL}, '') from counter`);
}

/** Where the log stands in the snapshot that `db` reads. */
export async function readPosition(db: Database): Promise<Position> {
  const rows = rowsOf<{ epoch: string; sequence: string | number }>(
    await db.execute(sql`select epoch, change_counter as sequence from cluster where id = 1`),
  );
  const row = rows[0];
  if (row === undefined)
    throw new PicketError('internal', 'cluster_row_missing', 'The database names no cluster');
  return { epoch: row.epoch, sequence: Number(row.sequence) };
}

/** Replaces the epoch and wakes the streams, which find that they cannot go on. */
export async function replaceEpoch(db: Database, epoch: string): Promise<void> {
  await db.execute(sql`
    with renamed as (update cluster set epoch = ${epoch} where id = 1 returning id)
    select pg_notify(${CHANGE_CHANNEL}, '') from renamed`);
}
