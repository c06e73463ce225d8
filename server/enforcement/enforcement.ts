import { asc, countDistinct, eq, gt, inArray, sql } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  parseEnforcementScope,
  splitEnforcementScope,
  type EnforcementMode,
  type EnforcementScope,
} from '../../shared/policy/enforcement.ts';
import type { SyncItem } from '../../shared/protocol/sync.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { trustDomainOf } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { cutPage, parseNameCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { enforcementModes, registrationEntries } from '../datastore/schema.ts';

/** The mode of a scope, as an operator set it. */
export interface Enforcement {
  readonly scope: EnforcementScope;
  readonly mode: EnforcementMode;
  readonly setBy: string;
  readonly setAt: Date;
}

export interface EnforcementOptions {
  readonly datastore: Datastore;
  readonly clock: Clock;
  readonly trustDomain: TrustDomain;
}

/** How many scopes may have a mode: every agent holds all of them. */
export const MAX_ENFORCEMENT_MODES = 10_000;

/** Which services are in audit mode. What no row names is enforced. */
export class Enforcements {
  readonly #options: EnforcementOptions;

  constructor(options: EnforcementOptions) {
    this.#options = options;
  }

  /** Reads a scope of our trust domain; `/shop/web` is short for one. Throws `invalid_argument`, reason `enforcement_scope_invalid` or `enforcement_scope_foreign`. */
  scopeOf(text: string): EnforcementScope {
    const { trustDomain } = this.#options;
    const scope = parseEnforcementScope(text.startsWith('/') ? `spiffe://${trustDomain}${text}` : text);
    if (trustDomainOf(splitEnforcementScope(scope).id) === trustDomain) return scope;
    throw new PicketError(
      'invalid_argument',
      'enforcement_scope_foreign',
      `Cannot set a mode for ${scope}: it is not of the trust domain ${trustDomain}`,
    );
  }

  /** Sets the mode of a scope, in the place of the one that it had. Throws `resource_exhausted`, reason `too_many_enforcement_modes`. */
  async set(wish: Omit<Enforcement, 'setAt'>): Promise<Enforcement> {
    const { scope, mode, setBy } = wish;
    const row = { scope, mode, setBy, setAt: new Date(this.#options.clock.nowMs()) };
    return await this.#options.datastore.write(async ({ db, changed }) => {
      await db
        .insert(enforcementModes)
        .values(row)
        .onConflictDoUpdate({ target: enforcementModes.scope, set: row });
      if ((await db.$count(enforcementModes)) > MAX_ENFORCEMENT_MODES) throw tooMany();
      changed({ kind: 'enforcement', key: scope });
      return row;
    });
  }

  /** Takes the mode of a scope away: the nearest scope above counts, or it is enforced. Throws `not_found`, reason `enforcement_unknown`. */
  async clear(scope: EnforcementScope): Promise<void> {
    await this.#options.datastore.write(async ({ db, changed }) => {
      const rows = await db.delete(enforcementModes).where(eq(enforcementModes.scope, scope)).returning();
      if (rows.length === 0)
        throw new PicketError('not_found', 'enforcement_unknown', `No mode is set for ${scope}`);
      changed({ kind: 'enforcement', key: scope });
    });
  }

  /** How many services are registered in a scope now. */
  async countServices(scope: EnforcementScope): Promise<number> {
    const { id, isBelow } = splitEnforcementScope(scope);
    const { spiffeId } = registrationEntries;
    const rows = await this.#options.datastore.db
      .select({ services: countDistinct(spiffeId) })
      .from(registrationEntries)
      .where(isBelow ? sql`starts_with(${spiffeId}, ${`${id}/`})` : eq(spiffeId, id));
    return rows[0]?.services ?? 0;
  }

  /** A page by scope. Throws `invalid_argument`: `cursor_invalid`, `limit_invalid`. */
  async list(
    page: { readonly cursor?: string; readonly limit?: number } = {},
  ): Promise<{ readonly items: readonly Enforcement[]; readonly nextCursor?: string }> {
    const limit = requirePageSize(page.limit);
    const after = parseNameCursor(page.cursor);
    const rows = await this.#options.datastore.db
      .select()
      .from(enforcementModes)
      .where(after === undefined ? undefined : gt(enforcementModes.scope, after))
      .orderBy(asc(enforcementModes.scope))
      .limit(limit + 1);
    const { page: found, next } = cutPage(rows, { limit, keyOf: ({ scope }) => [scope] });
    return { items: found.map((row) => ({ ...row, scope: row.scope as EnforcementScope })), ...next };
  }
}

/** What agents are told of the modes: of all, or of those with these keys. */
export async function readEnforcementItems(
  db: Database,
  keys?: readonly string[],
): Promise<readonly SyncItem[]> {
  if (keys?.length === 0) return [];
  const { scope, mode } = enforcementModes;
  const rows = await db
    .select({ scope, mode })
    .from(enforcementModes)
    .where(keys === undefined ? undefined : inArray(scope, [...keys]));
  return rows.map((value) => ({ kind: 'enforcement', key: value.scope, value }));
}

function tooMany(): PicketError {
  return new PicketError(
    'resource_exhausted',
    'too_many_enforcement_modes',
    `There are ${MAX_ENFORCEMENT_MODES} scopes with a mode already; set one for all below an ID instead`,
  );
}
