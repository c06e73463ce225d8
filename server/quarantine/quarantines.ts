import { and, asc, count, eq, gt, inArray, isNotNull, or, sql, type SQL } from 'drizzle-orm';
import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { isInSegment } from '../../shared/spiffe/segment.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { cutPage, parsePageCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { quarantines, registrationEntries } from '../datastore/schema.ts';
import { quarantineKey } from './quarantine-items.ts';
import { requireQuarantineSubject, type QuarantineKey } from './quarantine-subject.ts';

/** A quarantine that is in force. */
export interface Quarantine extends QuarantineKey {
  readonly reason: string;
  /** When the server lifts it by itself; null: never. */
  readonly until: Date | null;
  readonly createdBy: string;
  readonly createdAt: Date;
}

/** What an operator wants. */
export interface QuarantineWish extends QuarantineKey {
  readonly reason: string;
  /** From now; absent: until somebody lifts it. */
  readonly ttlSeconds?: number;
  readonly createdBy: string;
}

export interface QuarantinePage {
  readonly quarantines: readonly Quarantine[];
  /** Absent on the last page. */
  readonly nextCursor?: string;
}

/** How many there may be: every agent holds all of them. Whoever needs more names a segment. */
export const MAX_QUARANTINES = 10_000;

/** Who neither calls nor is called, whatever the policy says. A quarantine is in force as long as its row is there: only the server ends one. */
export class Quarantines {
  readonly #datastore: Datastore;
  readonly #clock: Clock;

  constructor(options: { readonly datastore: Datastore; readonly clock: Clock }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
  }

  /**
   * Puts a quarantine in force; one that is in force already gets the new reason and end. Throws `invalid_argument`, reason `quarantine_subject_invalid`;
   * `resource_exhausted`, reason `too_many_quarantines`.
   */
  async add(wish: QuarantineWish): Promise<Quarantine> {
    requireQuarantineSubject(wish);
    const { kind, subject, reason, ttlSeconds, createdBy } = wish;
    const nowMs = this.#clock.nowMs();
    const until = ttlSeconds === undefined ? null : new Date(nowMs + ttlSeconds * 1000);
    const row = { kind, subject, reason, until, createdBy, createdAt: new Date(nowMs) };
    return await this.#datastore.write(async ({ db, changed }) => {
      await db
        .insert(quarantines)
        .values(row)
        .onConflictDoUpdate({ target: [quarantines.kind, quarantines.subject], set: row });
      if ((await db.$count(quarantines)) > MAX_QUARANTINES) throw tooMany();
      changed({ kind: 'quarantine', key: quarantineKey(row) });
      return row;
    });
  }

  /** Ends a quarantine; with `until`, only if that is still its end. Throws `not_found`, reason `quarantine_unknown`. */
  async lift(key: QuarantineKey, options: { readonly until?: Date } = {}): Promise<Quarantine> {
    const { until } = options;
    const isMeant = and(isThat(key), until === undefined ? undefined : eq(quarantines.until, until));
    return await this.#datastore.write(async ({ db, changed }) => {
      const rows = await db.delete(quarantines).where(isMeant).returning();
      changed({ kind: 'quarantine', key: quarantineKey(key) });
      return requireQuarantine(rows[0], key);
    });
  }

  /** Throws `not_found`, reason `quarantine_unknown`. */
  async require(key: QuarantineKey): Promise<Quarantine> {
    const rows = await this.#datastore.db.select().from(quarantines).where(isThat(key));
    return requireQuarantine(rows[0], key);
  }

  /** A page by kind and subject. Throws `invalid_argument`: `cursor_invalid`, `limit_invalid`. */
  async list(page: { readonly cursor?: string; readonly limit?: number } = {}): Promise<QuarantinePage> {
    const limit = requirePageSize(page.limit);
    const rows = await this.#datastore.db
      .select()
      .from(quarantines)
      .where(page.cursor === undefined ? undefined : after(parsePageCursor(page.cursor, PAGE_KEY)))
      .orderBy(asc(quarantines.kind), asc(quarantines.subject))
      .limit(limit + 1);
    const { page: found, next } = cutPage(rows, { limit, keyOf: ({ kind, subject }) => [kind, subject] });
    return { quarantines: found.map(quarantineOf), ...next };
  }

  /** Those that end by themselves. */
  async listEnding(): Promise<readonly Quarantine[]> {
    const rows = await this.#datastore.db.select().from(quarantines).where(isNotNull(quarantines.until));
    return rows.map(quarantineOf);
  }

  /** How many registered workloads a quarantine holds now. */
  async countCovered({ kind, subject }: QuarantineKey): Promise<number> {
    const { spiffeId, parentId } = registrationEntries;
    const isHeld: Readonly<Record<QuarantineKey['kind'], SQL | undefined>> = {
      workload: eq(spiffeId, subject),
      node: eq(parentId, subject),
      segment: or(eq(spiffeId, subject), sql`starts_with(${spiffeId}, ${`${subject}/`})`),
    };
    const rows = await this.#datastore.db
      .select({ entries: count() })
      .from(registrationEntries)
      .where(isHeld[kind]);
    return rows[0]?.entries ?? 0;
  }

  /** The quarantine that holds a workload on a node, for each of `spiffeIds` that one holds. */
  async findHolding(
    nodeId: SpiffeId,
    spiffeIds: readonly SpiffeId[],
  ): Promise<ReadonlyMap<SpiffeId, Quarantine>> {
    const rows = (await readHolding(this.#datastore.db, nodeId, spiffeIds)).map(quarantineOf);
    const held = new Map<SpiffeId, Quarantine>();
    for (const id of spiffeIds) {
      const holding = rows.find(
        ({ kind, subject }) =>
          kind === 'node' || subject === id || (kind === 'segment' && isInSegment(id, subject)),
      );
      if (holding !== undefined) held.set(id, holding);
    }
    return held;
  }
}

type Row = typeof quarantines.$inferSelect;

async function readHolding(
  db: Database,
  nodeId: SpiffeId,
  spiffeIds: readonly SpiffeId[],
): Promise<readonly Row[]> {
  const { kind, subject } = quarantines;
  return await db
    .select()
    .from(quarantines)
    .where(
      or(
        and(eq(kind, 'node'), eq(subject, nodeId)),
        and(eq(kind, 'workload'), inArray(subject, [...new Set(spiffeIds)])),
        eq(kind, 'segment'),
      ),
    );
}

function isThat({ kind, subject }: QuarantineKey): SQL | undefined {
  return and(eq(quarantines.kind, kind), eq(quarantines.subject, subject));
}

const PAGE_KEY = z.tuple([z.enum(['workload', 'node', 'segment']), z.string()]);

function after([kind, subject]: z.output<typeof PAGE_KEY>): SQL | undefined {
  return or(gt(quarantines.kind, kind), and(eq(quarantines.kind, kind), gt(quarantines.subject, subject)));
}

function quarantineOf(row: Row): Quarantine {
  return { ...row, subject: row.subject as SpiffeId };
}

function requireQuarantine(row: Row | undefined, { kind, subject }: QuarantineKey): Quarantine {
  if (row !== undefined) return quarantineOf(row);
  throw new PicketError(
    'not_found',
    'quarantine_unknown',
    `The ${kind} "${subject}" is not in quarantine; see picket quarantine list`,
  );
}

function tooMany(): PicketError {
  return new PicketError(
    'resource_exhausted',
    'too_many_quarantines',
    `There are ${MAX_QUARANTINES} quarantines already; quarantine a segment instead`,
  );
}
