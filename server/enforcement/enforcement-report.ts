import { and, count, desc, eq, gte, lt, max, sql, type SQL } from 'drizzle-orm';
import { splitEnforcementScope, type EnforcementScope } from '../../shared/policy/enforcement.ts';
import type { EnforcementReport } from '../../shared/protocol/enforcement.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { accessLog } from '../datastore/schema.ts';

/** Lines of a report. */
const MAX_ITEMS = 1000;

/** Records that a report reads of each kind, the newest first: beyond, it tells of these alone. */
const MAX_RECORDS = 500_000;

export interface ReportWindow {
  readonly scope: EnforcementScope;
  readonly sinceMs: number;
  readonly untilMs: number;
  /** For tests; `MAX_RECORDS` otherwise. */
  readonly maxRecords?: number;
}

/** What enforcing a scope would break, by what passed in audit mode within the time, and how much of what came in was plaintext. */
export async function reportEnforcement(
  datastore: Datastore,
  window: ReportWindow,
): Promise<EnforcementReport> {
  const { maxRecords = MAX_RECORDS } = window;
  return await datastore.readSnapshot(async (db) => {
    const items = await readWouldDeny(db, window, maxRecords);
    const counts = await countInbound(db, window, maxRecords);
    const wouldDeny = await db.$count(newestWouldDeny(db, window, maxRecords));
    return {
      scope: window.scope,
      since: new Date(window.sinceMs).toISOString(),
      until: new Date(window.untilMs).toISOString(),
      ...counts,
      wouldDeny,
      items: items.slice(0, MAX_ITEMS),
      isTruncated: items.length > MAX_ITEMS || counts.decisions >= maxRecords || wouldDeny >= maxRecords,
    };
  });
}

function newestWouldDeny(db: Database, window: ReportWindow, maxRecords: number) {
  return db
    .select({
      caller: accessLog.callerSpiffeId,
      // Of callers with an identity it does not matter where they are.
      source: sql<
        string | null
      >`case when ${accessLog.callerSpiffeId} is null then ${accessLog.sourceAddress} end`.as('source'),
      target: accessLog.targetSpiffeId,
      method: accessLog.method,
      path: sql<string | null>`split_part(${accessLog.path}, '?', 1)`.as('path'),
      reason: accessLog.reason,
      rules: accessLog.rules,
      ts: accessLog.ts,
    })
    .from(accessLog)
    .where(and(isOf(window), sql`${accessLog.wouldDeny}`))
    .orderBy(desc(accessLog.ts))
    .limit(maxRecords)
    .as('newest');
}

async function readWouldDeny(
  db: Database,
  window: ReportWindow,
  maxRecords: number,
): Promise<EnforcementReport['items']> {
  const newest = newestWouldDeny(db, window, maxRecords);
  const { caller, source, target, method, path, reason, rules, ts } = newest;
  const columns = { caller, source, target, method, path, reason, rules };
  const rows = await db
    .select({ ...columns, count: count(), last: max(ts) })
    .from(newest)
    .groupBy(...Object.values(columns))
    .orderBy(desc(count()), ...Object.values(columns))
    .limit(MAX_ITEMS + 1);
  return rows.map(({ last, ...row }) => ({
    ...row,
    caller: row.caller as SpiffeId | null,
    target: row.target as SpiffeId,
    lastAt: (last ?? new Date(window.sinceMs)).toISOString(),
  }));
}

async function countInbound(
  db: Database,
  window: ReportWindow,
  maxRecords: number,
): Promise<Pick<EnforcementReport, 'decisions' | 'plaintext'>> {
  const newest = db
    .select({ caller: accessLog.callerSpiffeId })
    .from(accessLog)
    .where(and(isOf(window), eq(accessLog.direction, 'inbound')))
    .orderBy(desc(accessLog.ts))
    .limit(maxRecords)
    .as('newest');
  const [row] = await db.select({ decisions: count(), withCaller: count(newest.caller) }).from(newest);
  const { decisions = 0, withCaller = 0 } = row ?? {};
  return { decisions, plaintext: decisions - withCaller };
}

function isOf({ scope, sinceMs, untilMs }: ReportWindow): SQL | undefined {
  const { id, isBelow } = splitEnforcementScope(scope);
  const { targetSpiffeId, ts } = accessLog;
  return and(
    isBelow ? sql`starts_with(${targetSpiffeId}, ${`${id}/`})` : eq(targetSpiffeId, id),
    gte(ts, new Date(sinceMs)),
    lt(ts, new Date(untilMs)),
  );
}
