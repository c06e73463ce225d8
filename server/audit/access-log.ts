import { and, desc, eq, gte, lt, sql, type SQL } from 'drizzle-orm';
import { z } from 'zod';
import type { AccessRecord, AuditAnswer, AuditBatch } from '../../shared/protocol/audit.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { insertRows, type WholeRow } from '../datastore/insert-rows.ts';
import { cutPage, parsePageCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { accessCursors, accessLog, operatorLog } from '../datastore/schema.ts';
import {
  checkBatch,
  findEndOfGap,
  SPOOL_START,
  type CheckedRecord,
  type SpoolPosition,
} from './audit-chain.ts';
import { storableText } from './storable-text.ts';

/** Which records to show; what is absent does not matter. */
export interface AccessFilter {
  readonly caller?: SpiffeId;
  readonly target?: SpiffeId;
  /** The earliest and the latest time, the latest not included; milliseconds since 1970. */
  readonly fromMs?: number;
  readonly toMs?: number;
  readonly decision?: 'allow' | 'deny';
  readonly decisionId?: string;
  /** Whether it passed in audit mode and would have been denied. */
  readonly wouldDeny?: boolean;
  /** `nextCursor` of the page before. */
  readonly cursor?: string;
  readonly limit?: number;
}

/** A record with where it came from. */
export interface StoredAccessRecord {
  /** The agent that decided and reported it. */
  readonly nodeId: SpiffeId;
  /** The spool, and the number in it. */
  readonly epoch: string;
  readonly sequence: number;
  readonly record: AccessRecord;
}

export interface AccessPage {
  readonly records: readonly StoredAccessRecord[];
  /** Absent on the last page. */
  readonly nextCursor?: string;
}

/** How far a spool is stored now, and what of the batch was new. */
export interface StoredBatch extends AuditAnswer {
  readonly records: readonly CheckedRecord[];
}

/** Who asked for what, everywhere, and what was decided. */
export class AccessLog {
  readonly #datastore: Datastore;
  readonly #log: Log;

  constructor(options: { readonly datastore: Datastore; readonly log: Log }) {
    this.#datastore = options.datastore;
    this.#log = options.log;
  }

  /**
   * Stores what of a batch is not stored yet and answers how far the spool is stored now. If records before the batch are missing, nothing of it is stored
   * and the answer is the sequence that is: the agent goes on from there, or, when it holds them no more, tells of the gap. Then the batch is stored, and
   * the gap, with its bounds, is an action `audit.gap` of the agent in the operators' log. Throws as `checkBatch`; then nothing is stored.
   */
  async store(nodeId: SpiffeId, batch: AuditBatch): Promise<StoredBatch> {
    const { epoch } = batch;
    const stored = await this.#datastore.write(async ({ db }) => await storeBatch(db, nodeId, batch));
    const first = batch.records[0]?.sequence ?? 0;
    const gap = { nodeId, epoch, stored: stored.before, received: first };
    if (stored.hasGap) this.#log.error('audit_records_missing', gap);
    else if (first > stored.before + 1) this.#log.warn('audit_gap', gap);
    return { epoch, sequence: stored.after, records: stored.records };
  }

  /** A page of records, the newest first. A record that arrives late does not disturb the pages. Throws `invalid_argument`: `cursor_invalid`, `limit_invalid`. */
  async query(filter: AccessFilter = {}): Promise<AccessPage> {
    const limit = requirePageSize(filter.limit);
    const rows = await this.#datastore.db
      .select()
      .from(accessLog)
      .where(and(...conditionsOf(filter)))
      .orderBy(desc(accessLog.ts), desc(accessLog.nodeId), desc(accessLog.epoch), desc(accessLog.sequence))
      .limit(limit + 1);
    const { page, next } = cutPage(rows, {
      limit,
      keyOf: ({ ts, nodeId, epoch, sequence }) => [ts.getTime(), nodeId, epoch, sequence],
    });
    return { records: page.map(storedOf), ...next };
  }

  /** Forgets records of before `beforeMs`, at most `limit` of them. How far each spool is stored stays known. Returns how many went. */
  async prune(beforeMs: number, limit = 10_000): Promise<number> {
    const rows = await this.#datastore.write(async ({ db }) => {
      const old = db
        .select({ id: sql`ctid` })
        .from(accessLog)
        .where(lt(accessLog.ts, new Date(beforeMs)))
        .limit(limit);
      return await db
        .delete(accessLog)
        .where(sql`ctid in ${old}`)
        .returning({ sequence: accessLog.sequence });
    });
    return rows.length;
  }
}

/** The last sequence before and after, what is new, and whether records between are missing. */
interface Stored {
  readonly before: number;
  readonly after: number;
  readonly records: readonly CheckedRecord[];
  readonly hasGap: boolean;
}

async function storeBatch(db: Database, nodeId: SpiffeId, batch: AuditBatch): Promise<Stored> {
  const { epoch } = batch;
  const position = await lockPosition(db, { nodeId, epoch });
  const before = position.sequence;
  const endOfGap = findEndOfGap(batch, position);
  const records = checkBatch(batch, endOfGap ?? position);
  const last = records.at(-1);
  if (last === undefined) return { before, after: before, records, hasGap: false };
  if (endOfGap !== undefined) await recordGap(db, { nodeId, epoch, from: before + 1, to: endOfGap.sequence });
  await insertRows(
    db,
    accessLog,
    records.map((record) => rowOf({ nodeId, epoch, record })),
  );
  await db
    .update(accessCursors)
    .set({ sequence: last.sequence, hash: last.hash })
    .where(and(eq(accessCursors.nodeId, nodeId), eq(accessCursors.epoch, epoch)));
  return { before, after: last.sequence, records, hasGap: endOfGap !== undefined };
}

/** Nobody removes rows of the operators' log: whoever reads the record of a node can see there what it lacks. */
async function recordGap(
  db: Database,
  gap: Spool & { readonly from: number; readonly to: number },
): Promise<void> {
  const { nodeId, epoch, from, to } = gap;
  await db.insert(operatorLog).values({
    actor: nodeId,
    action: 'audit.gap',
    subject: epoch,
    decision: 'allow',
    outcome: 'done',
    detail: { from, to, records: to - from + 1 },
  });
}

interface Spool {
  readonly nodeId: SpiffeId;
  readonly epoch: string;
}

/** Locks the spool's position until the end of the transaction: two copies of a batch wait for each other. */
async function lockPosition(db: Database, spool: Spool): Promise<SpoolPosition> {
  await db
    .insert(accessCursors)
    .values({ ...spool, ...SPOOL_START })
    .onConflictDoNothing();
  const rows = await db
    .select({ sequence: accessCursors.sequence, hash: accessCursors.hash })
    .from(accessCursors)
    .where(and(eq(accessCursors.nodeId, spool.nodeId), eq(accessCursors.epoch, spool.epoch)))
    .for('update');
  return rows[0] ?? SPOOL_START;
}

/** The exact text of the record, in which what `storableText` replaces is escaped, stays beside. Half a surrogate pair that is not escaped is U+FFFD in what was hashed, too. */
function rowOf(options: Spool & { readonly record: CheckedRecord }): WholeRow<typeof accessLog> {
  const { nodeId, epoch } = options;
  const { sequence, hash, text, record } = options.record;
  return {
    nodeId,
    epoch,
    sequence,
    decisionId: storableText(record.decision_id),
    ts: new Date(record.ts).toISOString(),
    direction: record.direction,
    sourceAddress: addressOf(record.source),
    callerSpiffeId: record.caller_spiffe_id,
    targetSpiffeId: record.target_spiffe_id,
    method: record.method === null ? null : storableText(record.method),
    path: record.path === null ? null : storableText(record.path),
    decision: record.decision,
    wouldDeny: record.would_deny === true,
    rules: record.rules?.map(storableText) ?? [],
    reason: storableText(record.reason),
    policyVersion: record.policy_version,
    latencyUs: record.latency_us,
    record: text.toWellFormed(),
    hash,
  };
}

/** Of `address:port` or `[address]:port`. */
function addressOf(source: string): string {
  return storableText(source.replace(/:\d*$/, '').replace(/^\[|\]$/g, ''));
}

/** The text was parsed when it was stored. */
function storedOf(row: typeof accessLog.$inferSelect): StoredAccessRecord {
  return {
    nodeId: row.nodeId as SpiffeId,
    epoch: row.epoch,
    sequence: row.sequence,
    record: JSON.parse(row.record) as AccessRecord,
  };
}

/** The end of the year 9999, which PostgreSQL and ISO 8601 without extension write alike. */
const MAX_TIME_MS = 253_402_300_799_999;
const PAGE_KEY = z.tuple([z.number().min(0).max(MAX_TIME_MS), z.string(), z.string(), z.number()]);

function conditionsOf(filter: AccessFilter): readonly (SQL | undefined)[] {
  const { caller, target, fromMs, toMs, decision, decisionId, wouldDeny, cursor } = filter;
  return [
    caller === undefined ? undefined : eq(accessLog.callerSpiffeId, caller),
    target === undefined ? undefined : eq(accessLog.targetSpiffeId, target),
    fromMs === undefined ? undefined : gte(accessLog.ts, new Date(fromMs)),
    toMs === undefined ? undefined : lt(accessLog.ts, new Date(toMs)),
    decision === undefined ? undefined : eq(accessLog.decision, decision),
    decisionId === undefined ? undefined : eq(accessLog.decisionId, decisionId),
    wouldDeny === undefined ? undefined : isWouldDeny(wouldDeny),
    cursor === undefined ? undefined : before(parsePageCursor(cursor, PAGE_KEY)),
  ];
}

/** Without a parameter: the index of what would have been denied is partial. */
function isWouldDeny(wish: boolean): SQL {
  return wish ? sql`${accessLog.wouldDeny}` : sql`not ${accessLog.wouldDeny}`;
}

function before([tsMs, nodeId, epoch, sequence]: z.output<typeof PAGE_KEY>): SQL {
  const { ts } = accessLog;
  const time = new Date(tsMs).toISOString();
  return sql`(${ts}, ${accessLog.nodeId}, ${accessLog.epoch}, ${accessLog.sequence}) < (${time}::timestamptz, ${nodeId}, ${epoch}, ${sequence}::bigint)`;
}
