import { and, desc, eq, gte, lt, type SQL } from 'drizzle-orm';
import { z } from 'zod';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { cutPage, parsePageCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { operatorLog } from '../datastore/schema.ts';
import { storableText } from './storable-text.ts';

/** What somebody did to the server's state, or was refused. */
export interface OperatorAction {
  /** SPIFFE ID of the operator or agent, or `local:uid:0` and the like. */
  readonly actor: string;
  /** Verb and noun, such as `entry.create`. */
  readonly action: string;
  /** What it was done to: an id, a name. */
  readonly subject: string;
  /** Whether policy let it through. */
  readonly decision: 'allow' | 'deny';
  /** `ok`, or the reason of the error or denial. */
  readonly outcome: string;
  /** Never a secret. */
  readonly detail: Readonly<Record<string, unknown>>;
}

export interface StoredOperatorAction extends OperatorAction {
  readonly id: number;
  readonly ts: Date;
}

/** Which actions to show; what is absent does not matter. */
export interface OperatorActionFilter {
  readonly actor?: string;
  readonly action?: string;
  readonly subject?: string;
  /** Milliseconds since 1970; the latest is not included. */
  readonly fromMs?: number;
  readonly toMs?: number;
  /** `nextCursor` of the page before. */
  readonly cursor?: string;
  readonly limit?: number;
}

export interface OperatorActionPage {
  readonly actions: readonly StoredOperatorAction[];
  /** Absent on the last page. */
  readonly nextCursor?: string;
}

/** The record of what operators did, attestations included. Nothing here changes or removes a row. */
export class OperatorLog {
  readonly #datastore: Datastore;
  readonly #clock: Clock;

  constructor(options: { readonly datastore: Datastore; readonly clock: Clock }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
  }

  /** Records an action. */
  async append(action: OperatorAction): Promise<void> {
    await this.#datastore.write(async ({ db }) => await this.appendTo(db, action));
  }

  /** Records an action in the transaction that carries it out: both happen or neither. */
  async appendTo(db: Database, action: OperatorAction): Promise<void> {
    const { actor, action: verb, subject, decision, outcome, detail } = action;
    await db.insert(operatorLog).values({
      ts: new Date(this.#clock.nowMs()),
      actor: storableText(actor),
      action: verb,
      subject: storableText(subject),
      decision,
      outcome: storableText(outcome),
      detail: storableDetail(detail),
    });
  }

  /** A page of actions, the last recorded first. Throws `invalid_argument`: `cursor_invalid`, `limit_invalid`. */
  async query(filter: OperatorActionFilter = {}): Promise<OperatorActionPage> {
    const limit = requirePageSize(filter.limit);
    const rows = await this.#datastore.db
      .select()
      .from(operatorLog)
      .where(and(...conditionsOf(filter)))
      .orderBy(desc(operatorLog.id))
      .limit(limit + 1);
    const { page, next } = cutPage(rows, { limit, keyOf: ({ id }) => [id] });
    return { actions: page, ...next };
  }
}

function conditionsOf(filter: OperatorActionFilter): readonly (SQL | undefined)[] {
  const { actor, action, subject, fromMs, toMs, cursor } = filter;
  return [
    actor === undefined ? undefined : eq(operatorLog.actor, actor),
    action === undefined ? undefined : eq(operatorLog.action, action),
    subject === undefined ? undefined : eq(operatorLog.subject, subject),
    fromMs === undefined ? undefined : gte(operatorLog.ts, new Date(fromMs)),
    toMs === undefined ? undefined : lt(operatorLog.ts, new Date(toMs)),
    cursor === undefined ? undefined : lt(operatorLog.id, parsePageCursor(cursor, z.tuple([z.number()]))[0]),
  ];
}

function storableDetail(detail: OperatorAction['detail']): OperatorAction['detail'] {
  const clean = (_key: string, value: unknown): unknown => {
    if (typeof value === 'string') return storableText(value);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [storableText(key), inner]));
  };
  return JSON.parse(JSON.stringify(detail), clean) as OperatorAction['detail'];
}
