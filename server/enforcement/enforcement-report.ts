import { and, count, desc, eq, gte, isNull, lt, max, sql, type SQL } from 'drizzle-orm';
import { splitEnforcementScope, type EnforcementScope } from '../../shared/policy/enforcement.ts';
import type { EnforcementReport } from '../../shared/protocol/enforcement.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { accessLog } from '../datastore/schema.ts';

/** Lines of a report. */
const MAX_ITEMS = 1000;

export interface ReportWindow {
  readonly scope: EnforcementScope;
  readonly sinceMs: number;
  readonly untilMs: number;
}

/** What enforcing a scope would break, by what passed in audit mode within the time, and how much of what came in was plaintext. */
export async function reportEnforcement(
  datastore: Datastore,
  window: ReportWindow,
): Promise<EnforcementReport> {
  return await datastore.readSnapshot(async (db) => {
    const items = await readWouldDeny(db, window);
    return {
      scope: window.scope,
      since: new Date(window.sinceMs).toISOString(),
      until: new Date(window.untilMs).toISOString(),
      ...(await countDecisions(db, window)),
      items: items.slice(0, MAX_ITEMS),
      isTruncated: items.length > MAX_ITEMS,
    };
  });
}

async function readWouldDeny(db: Database, window: ReportWindow): Promise<EnforcementReport['items']> {
  const path = sql<string | null>`split_part(${accessLog.path}, '?', 1)`;
  // Of callers with an identity it does not matter where they are.
  const source = sql<
    string | null
  >`case when ${accessLog.callerSpiffeId} is null then ${accessLog.sourceAddress} end`;
  const columns = {
    caller: accessLog.callerSpiffeId,
    source,
    target: accessLog.targetSpiffeId,
    method: accessLog.method,
    path,
    reason: accessLog.reason,
    rules: accessLog.rules,
  };
  const rows = await db
    .select({ ...columns, count: count(), last: max(accessLog.ts) })
    .from(accessLog)
    .where(and(isOf(window), sql`${accessLog.wouldDeny}`))
    // By position: the expressions above are no names.
    .groupBy(sql`1, 2, 3, 4, 5, 6, 7`)
    .orderBy(desc(count()), sql`1, 2, 3, 4, 5, 6, 7`)
    .limit(MAX_ITEMS + 1);
  return rows.map(({ last, ...row }) => ({
    ...row,
    caller: row.caller as SpiffeId | null,
    target: row.target as SpiffeId,
    lastAt: (last ?? new Date(window.sinceMs)).toISOString(),
  }));
}

async function countDecisions(
  db: Database,
  window: ReportWindow,
): Promise<Pick<EnforcementReport, 'decisions' | 'plaintext' | 'wouldDeny'>> {
  const isInbound = eq(accessLog.direction, 'inbound');
  const filtered = (condition: SQL | undefined): SQL<number> =>
    sql<number>`count(*) filter (where ${condition})`.mapWith(Number);
  const [row] = await db
    .select({
      decisions: filtered(isInbound),
      plaintext: filtered(and(isInbound, isNull(accessLog.callerSpiffeId))),
      wouldDeny: filtered(sql`${accessLog.wouldDeny}`),
    })
    .from(accessLog)
    .where(isOf(window));
  return row ?? { decisions: 0, plaintext: 0, wouldDeny: 0 };
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
