import { randomUUID } from 'node:crypto';
import { and, asc, eq, inArray, sql, type SQL } from 'drizzle-orm';
import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Entry, NewEntry } from '../../shared/protocol/registration.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Selector } from '../../shared/spiffe/selector.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { isUniqueViolation } from '../datastore/database-error.ts';
import type { Database, Datastore, Transaction } from '../datastore/datastore.ts';
import { cutPage, parsePageCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { registrationEntries } from '../datastore/schema.ts';
import { noteDirectoryChanges } from '../directory/note-directory-changes.ts';
import { requireWorkloadNotHeld } from '../quarantine/require-not-held.ts';
import { entryOf, rowOf } from './entry-row.ts';
import { normalizeEntry } from './entry-rules.ts';
import { requireFreeListeners } from './listener-conflict.ts';

/** Which entries to list; what is absent does not matter. */
export interface EntryFilter {
  readonly spiffeId?: SpiffeId;
  readonly parentId?: SpiffeId;
  /** One of the entry's selectors. */
  readonly selector?: Selector;
  /** `nextCursor` of the page before. */
  readonly cursor?: string;
  readonly limit?: number;
}

export interface EntryPage {
  readonly entries: readonly Entry[];
  /** Absent on the last page. */
  readonly nextCursor?: string;
}

/** Registration: which workload, known by its selectors, gets which identity on which host. */
export class Registration {
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #trustDomain: TrustDomain;

  constructor(options: {
    readonly datastore: Datastore;
    readonly clock: Clock;
    readonly trustDomain: TrustDomain;
  }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
    this.#trustDomain = options.trustDomain;
  }

  /**
   * Adds an entry. Throws `invalid_argument` as `normalizeEntry`; `already_exists`: `entry_exists` for the same SPIFFE ID, parent and
   * selectors, `listener_conflict` when another identity, or another protocol, is registered at a port of the same host.
   */
  async create(wish: NewEntry): Promise<Entry> {
    const entry: Entry = {
      ...normalizeEntry(wish, this.#trustDomain),
      entryId: randomUUID(),
      revision: 0,
      createdAt: new Date(this.#clock.nowMs()).toISOString(),
    };
    return await this.#write(entry, [entry.parentId], async ({ db, changed }) => {
      await requireFreeListeners(db, entry);
      await db.insert(registrationEntries).values(rowOf(entry));
      changed({ kind: 'entry', key: entry.entryId, scope: entry.parentId });
      return entry;
    });
  }

  /** The entry of that id, or undefined. */
  async find(entryId: string): Promise<Entry | undefined> {
    return isEntryId(entryId) ? await findEntry(this.#datastore.db, entryId) : undefined;
  }

  /** Those of the entries that `parentId` may serve, by id: what an agent may ask certificates for. */
  async findOfParent(parentId: SpiffeId, entryIds: readonly string[]): Promise<ReadonlyMap<string, Entry>> {
    const known = entryIds.filter(isEntryId);
    if (known.length === 0) return new Map();
    const rows = await this.#datastore.db
      .select()
      .from(registrationEntries)
      .where(and(eq(registrationEntries.parentId, parentId), inArray(registrationEntries.entryId, known)));
    return new Map(rows.map((row) => [row.entryId, entryOf(row)]));
  }

  /** A page of entries in the order of their SPIFFE IDs. Throws `invalid_argument`: `cursor_invalid`, `limit_invalid`. */
  async list(filter: EntryFilter = {}): Promise<EntryPage> {
    const limit = requirePageSize(filter.limit);
    const rows = await this.#datastore.db
      .select()
      .from(registrationEntries)
      .where(and(...conditionsOf(filter)))
      .orderBy(asc(registrationEntries.spiffeId), asc(registrationEntries.entryId))
      .limit(limit + 1);
    const keyOf = (last: (typeof rows)[number]): readonly string[] => [last.spiffeId, last.entryId];
    const { page, next } = cutPage(rows, { limit, keyOf });
    return { entries: page.map(entryOf), ...next };
  }

  /**
   * Replaces an entry, if it still has `revision`. Throws as `create`; `not_found`, reason `entry_unknown`; `failed_precondition`, reason
   * `revision_mismatch`, when somebody else changed it first; `workload_quarantined` for another identity, parent or other selectors while it is in quarantine.
   */
  async update(
    entryId: string,
    options: { readonly wish: NewEntry; readonly revision: number },
  ): Promise<Entry> {
    const wish = normalizeEntry(options.wish, this.#trustDomain);
    const known = requireEntry(await this.find(entryId), entryId);
    return await this.#write(wish, [known.parentId, wish.parentId], async ({ db, changed }) => {
      const current = requireEntry(await findEntry(db, entryId), entryId);
      // The locked parents are those of `known`: with the revision unchanged they are those of `current`.
      requireRevision(current, known.revision);
      requireRevision(current, options.revision);
      const entry: Entry = { ...current, ...wish, revision: current.revision + 1 };
      if (isForOthers(current, entry)) await requireWorkloadNotHeld(db, current.spiffeId);
      await requireFreeListeners(db, entry);
      await replaceRow(db, { entry, previous: current });
      changed({ kind: 'entry', key: entryId, scope: current.parentId });
      changed({ kind: 'entry', key: entryId, scope: entry.parentId });
      return entry;
    });
  }

  /**
   * Removes an entry, whatever its revision unless one is given. Throws `not_found`, reason `entry_unknown`; `failed_precondition`: `revision_mismatch`,
   * `workload_quarantined`.
   */
  async delete(entryId: string, options: { readonly revision?: number } = {}): Promise<Entry> {
    const known = requireEntry(await this.find(entryId), entryId);
    return await this.#write(known, [known.parentId], async ({ db, changed }) => {
      const revision = options.revision ?? known.revision;
      const rows = await db
        .delete(registrationEntries)
        .where(and(eq(registrationEntries.entryId, entryId), eq(registrationEntries.revision, revision)))
        .returning();
      if (rows[0] === undefined) throw revisionMismatch(requireEntry(await findEntry(db, entryId), entryId));
      await requireWorkloadNotHeld(db, known.spiffeId);
      changed({ kind: 'entry', key: entryId, scope: known.parentId });
      return entryOf(rows[0]);
    });
  }

  async #write(
    wish: NewEntry,
    parents: readonly SpiffeId[],
    work: (transaction: Transaction) => Promise<Entry>,
  ): Promise<Entry> {
    try {
      return await this.#datastore.write((transaction) =>
        noteDirectoryChanges(transaction, parents, () => work(transaction)),
      );
    } catch (error) {
      if (isUniqueViolation(error, 'registration_entries_same')) throw entryExists(wish, error);
      throw error;
    }
  }
}

/** Whether processes that had the entry may not have it any more, or as somebody else. */
function isForOthers(before: Entry, after: Entry): boolean {
  return (
    before.spiffeId !== after.spiffeId ||
    before.parentId !== after.parentId ||
    new Set(before.selectors).symmetricDifference(new Set(after.selectors)).size > 0
  );
}

async function findEntry(db: Database, entryId: string): Promise<Entry | undefined> {
  const rows = await db.select().from(registrationEntries).where(eq(registrationEntries.entryId, entryId));
  return rows[0] === undefined ? undefined : entryOf(rows[0]);
}

async function replaceRow(
  db: Database,
  change: { readonly entry: Entry; readonly previous: Entry },
): Promise<void> {
  const { entry, previous } = change;
  const rows = await db
    .update(registrationEntries)
    .set(rowOf(entry))
    .where(
      and(
        eq(registrationEntries.entryId, entry.entryId),
        eq(registrationEntries.revision, previous.revision),
      ),
    )
    .returning({ entryId: registrationEntries.entryId });
  if (rows.length === 0) throw revisionMismatch(previous);
}

function conditionsOf(filter: EntryFilter): readonly (SQL | undefined)[] {
  const { spiffeId, parentId, selector, cursor } = filter;
  return [
    spiffeId === undefined ? undefined : eq(registrationEntries.spiffeId, spiffeId),
    parentId === undefined ? undefined : eq(registrationEntries.parentId, parentId),
    selector === undefined
      ? undefined
      : sql`${registrationEntries.selectors} @> ${JSON.stringify([selector])}::text::jsonb`,
    cursor === undefined ? undefined : after(parsePageCursor(cursor, PAGE_KEY)),
  ];
}

const PAGE_KEY = z.tuple([z.string(), z.uuid()]);

function after([spiffeId, entryId]: z.output<typeof PAGE_KEY>): SQL {
  return sql`(${registrationEntries.spiffeId}, ${registrationEntries.entryId}) > (${spiffeId}, ${entryId}::uuid)`;
}

function isEntryId(text: string): boolean {
  return z.uuid().safeParse(text).success;
}

function requireEntry(entry: Entry | undefined, entryId: string): Entry {
  if (entry !== undefined) return entry;
  throw new PicketError(
    'not_found',
    'entry_unknown',
    `There is no registration entry "${entryId.slice(0, 60)}"`,
  );
}

function requireRevision(current: Entry, revision: number): void {
  if (current.revision !== revision) throw revisionMismatch(current);
}

function revisionMismatch(current: Entry): PicketError {
  return new PicketError(
    'failed_precondition',
    'revision_mismatch',
    `Registration entry "${current.entryId}" was changed in the meantime; it is at revision ${current.revision}`,
    { details: { revision: current.revision } },
  );
}

function entryExists(wish: NewEntry, cause: unknown): PicketError {
  return new PicketError(
    'already_exists',
    'entry_exists',
    `"${wish.spiffeId}" is already registered under "${wish.parentId}" for these selectors`,
    { cause },
  );
}
