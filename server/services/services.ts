import { and, asc, eq, gt, inArray, sql } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  serviceAddress,
  type NewService,
  type ServiceAddress,
  type ServiceRecord,
} from '../../shared/protocol/service.ts';
import type { SyncItem } from '../../shared/protocol/sync.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { identityKindOf } from '../../shared/spiffe/reserved-path.ts';
import { trustDomainOf, type SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { parseNodeAddress } from '../agents/node-address.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { cutPage, parseNameCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { nodeAddresses, nodes, registrationEntries, services } from '../datastore/schema.ts';
import { lockServiceAddresses } from './service-addresses.ts';

/** A service as an operator declared it. */
export interface Service extends ServiceRecord {
  readonly createdBy: string;
  readonly createdAt: Date;
}

/** How many services there may be: every agent holds all of them. */
export const MAX_SERVICES = 10_000;

/** Services in several places: an identity, the port of its listeners, and the addresses by which programs reach whichever of them is best. */
export class Services {
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
   * Declares a service, in the place of the one of that name. Throws `invalid_argument`: `spiffe_id_foreign`, `spiffe_id_reserved`, `address_invalid`;
   * `already_exists`: `service_address_taken` when an address leads to another service, or is a node's own; `resource_exhausted`, reason `too_many_services`.
   */
  async set(name: string, wish: NewService & { readonly createdBy: string }): Promise<Service> {
    requireWorkload(wish.spiffeId, this.#trustDomain);
    const row: Service = {
      name,
      spiffeId: wish.spiffeId,
      port: wish.port,
      addresses: normalizeAddresses(wish.addresses),
      createdBy: wish.createdBy,
      createdAt: new Date(this.#clock.nowMs()),
    };
    return await this.#datastore.write(async ({ db, changed }) => {
      await lockServiceAddresses(db);
      await requireFreeAddresses(db, row);
      await db.insert(services).values(row).onConflictDoUpdate({ target: services.name, set: row });
      if ((await db.$count(services)) > MAX_SERVICES) throw tooMany();
      changed({ kind: 'service', key: name });
      return row;
    });
  }

  /** Throws `not_found`, reason `service_unknown`. */
  async find(name: string): Promise<Service> {
    const [row] = await this.#datastore.db.select().from(services).where(eq(services.name, name));
    if (row === undefined) throw unknown(name);
    return serviceOf(row);
  }

  /** Its addresses lead nowhere from then on, and out of the mesh. Throws `not_found`, reason `service_unknown`. */
  async delete(name: string): Promise<void> {
    await this.#datastore.write(async ({ db, changed }) => {
      const rows = await db.delete(services).where(eq(services.name, name)).returning();
      if (rows.length === 0) throw unknown(name);
      changed({ kind: 'service', key: name });
    });
  }

  /** A page by name. Throws `invalid_argument`: `cursor_invalid`, `limit_invalid`. */
  async list(
    page: { readonly cursor?: string; readonly limit?: number } = {},
  ): Promise<{ readonly items: readonly Service[]; readonly nextCursor?: string }> {
    const limit = requirePageSize(page.limit);
    const after = parseNameCursor(page.cursor);
    const rows = await this.#datastore.db
      .select()
      .from(services)
      .where(after === undefined ? undefined : gt(services.name, after))
      .orderBy(asc(services.name))
      .limit(limit + 1);
    const { page: found, next } = cutPage(rows, { limit, keyOf: ({ name }) => [name] });
    return { items: found.map(serviceOf), ...next };
  }

  /** How many confirmed addresses have the listener of each of these services now, by its name; one without any is absent. */
  async countMembers(names: readonly string[]): Promise<ReadonlyMap<string, number>> {
    if (names.length === 0) return new Map();
    const rows = await this.#datastore.db
      .select({
        name: services.name,
        members: sql<number>`count(distinct (${nodeAddresses.network}, ${nodeAddresses.address}))::int`,
      })
      .from(services)
      .innerJoin(
        registrationEntries,
        and(
          eq(registrationEntries.spiffeId, services.spiffeId),
          sql`${registrationEntries.listeners} @> jsonb_build_array(jsonb_build_object('port', ${services.port}))`,
        ),
      )
      .innerJoin(
        nodeAddresses,
        and(eq(nodeAddresses.nodeId, registrationEntries.parentId), eq(nodeAddresses.state, 'confirmed')),
      )
      .innerJoin(nodes, and(eq(nodes.nodeId, nodeAddresses.nodeId), eq(nodes.isBanned, false)))
      .where(inArray(services.name, [...names]))
      .groupBy(services.name);
    return new Map(rows.map(({ name, members }) => [name, members]));
  }
}

/** What agents are told of services: of all, or of those with these names. */
export async function readServiceItems(
  db: Database,
  names?: readonly string[],
): Promise<readonly SyncItem[]> {
  if (names?.length === 0) return [];
  const rows = await db
    .select()
    .from(services)
    .where(names === undefined ? undefined : inArray(services.name, [...names]));
  return rows.map(serviceOf).map(({ name, spiffeId, port, addresses }) => ({
    kind: 'service',
    key: name,
    value: { name, spiffeId, port, addresses },
  }));
}

function serviceOf(row: typeof services.$inferSelect): Service {
  return { ...row, spiffeId: row.spiffeId as SpiffeId, addresses: [...row.addresses] };
}

/** Such as no host has for itself alone are refused as for nodes: loopback would lead every host's own traffic away. */
function normalizeAddresses(addresses: readonly ServiceAddress[]): ServiceAddress[] {
  const one = addresses.map(({ address, port }) => ({ address: parseNodeAddress(address), port }));
  return [...new Map(one.map((each) => [nameOf(each), serviceAddress.parse(each)])).values()];
}

function nameOf({ address, port }: ServiceAddress): string {
  return `${address}|${port}`;
}

function requireWorkload(spiffeId: SpiffeId, trustDomain: TrustDomain): void {
  const [reason, why] =
    trustDomainOf(spiffeId) !== trustDomain
      ? ['spiffe_id_foreign', `it is not of trust domain "${trustDomain}"`]
      : identityKindOf(spiffeId) !== 'workload'
        ? ['spiffe_id_reserved', 'it is no identity of a workload']
        : [];
  if (reason !== undefined)
    throw new PicketError('invalid_argument', reason, `Cannot declare a service of "${spiffeId}": ${why}`);
}

async function requireFreeAddresses(db: Database, wish: Service): Promise<void> {
  const rivals = await db.select().from(services);
  const wanted = new Set(wish.addresses.map(nameOf));
  for (const rival of rivals) {
    const taken = rival.addresses.find((each) => wanted.has(nameOf(each)));
    if (taken === undefined || rival.name === wish.name) continue;
    throw addressTaken(taken, `it leads to the service "${rival.name}"`);
  }
  const [own] = await db
    .select()
    .from(nodeAddresses)
    .where(
      and(
        eq(nodeAddresses.state, 'confirmed'),
        inArray(
          nodeAddresses.address,
          wish.addresses.map(({ address }) => address),
        ),
      ),
    );
  const taken = wish.addresses.find(({ address }) => address === own?.address);
  if (own !== undefined && taken !== undefined) throw addressTaken(taken, `it is that of ${own.nodeId}`);
}

function addressTaken({ address, port }: ServiceAddress, why: string): PicketError {
  return new PicketError(
    'already_exists',
    'service_address_taken',
    `Cannot lead ${address} port ${port} to a service: ${why}`,
  );
}

function unknown(name: string): PicketError {
  return new PicketError('not_found', 'service_unknown', `There is no service "${name.slice(0, 70)}"`);
}

function tooMany(): PicketError {
  return new PicketError(
    'resource_exhausted',
    'too_many_services',
    `There are ${MAX_SERVICES} services already`,
  );
}
