import { and, asc, eq, gt, isNull, lte, or, sql, type SQL } from 'drizzle-orm';
import type { SyncChange, SyncKind } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { readPosition } from '../datastore/change-log.ts';
import type { Database, Datastore, Position } from '../datastore/datastore.ts';
import { changeLog } from '../datastore/schema.ts';
import { itemName, MESH_POLICY_KEY, readItemsOf } from './sync-items.ts';

/** Rows of the log that are read at once. */
const CHANGE_BATCH_SIZE = 500;

/** A row of the change log with its object as it is now, which may be newer than the row: the later row then says the same again. */
export interface LoggedChange {
  readonly sequence: number;
  /** The one agent whom it concerns; null: every agent. */
  readonly scope: SpiffeId | null;
  /** What the agent is told; absent when a node's standing changed. */
  readonly change?: SyncChange;
}

/** A stretch of the log without gaps: everything after where the reader was, up to `upTo`. */
export interface ChangeBatch {
  readonly upTo: number;
  readonly changes: readonly LoggedChange[];
  /** Whether the log ends at `upTo`. */
  readonly isLast: boolean;
}

/**
 * The next stretch of the log after `from`, at most `CHANGE_BATCH_SIZE` rows; with `agentId`, only what that agent may know. Undefined when the log cannot be
 * continued from there: another epoch, a sequence ahead of the log (a restored backup), or rows that were pruned.
 */
export async function readChanges(
  datastore: Datastore,
  from: Position & { readonly agentId?: SpiffeId },
): Promise<ChangeBatch | undefined> {
  return await datastore.readSnapshot(async (db) => {
    const now = await readPosition(db);
    if (now.epoch !== from.epoch || now.sequence < from.sequence) return undefined;
    const upTo = Math.min(now.sequence, from.sequence + CHANGE_BATCH_SIZE);
    if (upTo === from.sequence) return { upTo, changes: [], isLast: true };
    const stretch = and(gt(changeLog.sequence, from.sequence), lte(changeLog.sequence, upTo));
    const whole = await db.$count(changeLog, stretch);
    if (whole !== upTo - from.sequence) return undefined;
    const rows = await db
      .select()
      .from(changeLog)
      .where(and(stretch, from.agentId === undefined ? undefined : concerns(from.agentId)))
      .orderBy(asc(changeLog.sequence));
    return { upTo, changes: await resolve(db, latestOf(rows)), isLast: upTo === now.sequence };
  });
}

/** Forgets all but the newest `keep` rows of the log; a reader that is further behind gets a snapshot. Returns how many went. */
export async function pruneChangeLog(datastore: Datastore, keep: number): Promise<number> {
  const { sequence } = await datastore.position();
  const rows = await datastore.write(({ db }) =>
    db
      .delete(changeLog)
      .where(lte(changeLog.sequence, sequence - keep))
      .returning({ sequence: changeLog.sequence }),
  );
  return rows.length;
}

type Row = typeof changeLog.$inferSelect;

function concerns(agentId: SpiffeId): SQL {
  return or(isNull(changeLog.scope), eq(changeLog.scope, agentId)) ?? sql`true`;
}

/** An object is told as it is now: once in a stretch says all. Scopes are kept apart, since each agent hears of its own. */
function latestOf(rows: readonly Row[]): readonly Row[] {
  const latest = new Map(rows.map((row) => [JSON.stringify([row.kind, row.key, row.scope]), row]));
  return rows.filter((row) => latest.get(JSON.stringify([row.kind, row.key, row.scope])) === row);
}

async function resolve(db: Database, rows: readonly Row[]): Promise<readonly LoggedChange[]> {
  const items = await readItemsOf(db, rows);
  return rows.map((row) => {
    const scope = row.scope as SpiffeId | null;
    if (!isSent(row)) return { sequence: row.sequence, scope };
    const item = items.get(itemName(row));
    // An entry that went to another parent is gone for the agent that had it.
    const isPresent = item !== undefined && (item.kind !== 'entry' || item.value.parentId === scope);
    const change: SyncChange = isPresent
      ? { op: 'put', item }
      : { op: 'delete', kind: row.kind as SyncKind, key: row.key };
    return { sequence: row.sequence, scope, change };
  });
}

function isSent(row: Row): boolean {
  if (row.kind === 'policy') return row.key === MESH_POLICY_KEY;
  return row.kind !== 'node';
}
