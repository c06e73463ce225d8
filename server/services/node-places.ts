import { and, eq, inArray } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { PlaceRecord } from '../../shared/protocol/service.ts';
import type { SyncItem } from '../../shared/protocol/sync.ts';
import { identityKindOf } from '../../shared/spiffe/reserved-path.ts';
import { trustDomainOf, type SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { lockNames } from '../datastore/advisory-lock.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { nodeAddresses, nodePlaces, nodes } from '../datastore/schema.ts';

/** How many hosts may have a place: every agent holds all of them. */
export const MAX_PLACES = 10_000;

/** Where hosts are: an operator says it, no host does, because traffic follows it. */
export class NodePlaces {
  readonly #datastore: Datastore;
  readonly #trustDomain: TrustDomain;

  constructor(options: { readonly datastore: Datastore; readonly trustDomain: TrustDomain }) {
    this.#datastore = options.datastore;
    this.#trustDomain = options.trustDomain;
  }

  /** Declares where a host is, which need not have attested yet. Throws `invalid_argument`, reason `node_invalid`, for what is no agent's ID of our trust domain; `resource_exhausted`, reason `too_many_places`. */
  async set(nodeId: SpiffeId, locality: string): Promise<void> {
    if (identityKindOf(nodeId) !== 'agent' || trustDomainOf(nodeId) !== this.#trustDomain)
      throw new PicketError(
        'invalid_argument',
        'node_invalid',
        `Cannot place "${nodeId}": it is not the SPIFFE ID of an agent of ${this.#trustDomain}`,
      );
    const row = { nodeId, locality };
    await this.#datastore.write(async ({ db, changed }) => {
      // Counted under a lock: of many at once none must pass by the others.
      await lockNames(db, ['places']);
      await db.insert(nodePlaces).values(row).onConflictDoUpdate({ target: nodePlaces.nodeId, set: row });
      if ((await db.$count(nodePlaces)) > MAX_PLACES) throw tooMany();
      changed({ kind: 'place', key: nodeId });
    });
  }

  /** Nobody knows from then on where it is. Throws `not_found`, reason `place_unknown`. */
  async clear(nodeId: SpiffeId): Promise<void> {
    await this.#datastore.write(async ({ db, changed }) => {
      const rows = await db.delete(nodePlaces).where(eq(nodePlaces.nodeId, nodeId)).returning();
      if (rows.length === 0)
        throw new PicketError('not_found', 'place_unknown', `No place is declared for "${nodeId}"`);
      changed({ kind: 'place', key: nodeId });
    });
  }

  /** Where a host is; undefined where nobody said it. */
  async find(nodeId: SpiffeId): Promise<string | undefined> {
    const [row] = await this.#datastore.db.select().from(nodePlaces).where(eq(nodePlaces.nodeId, nodeId));
    return row?.locality;
  }
}

/** What agents are told of places: of all hosts, or of those with these IDs. */
export async function readPlaceItems(
  db: Database,
  nodeIds?: readonly string[],
): Promise<readonly SyncItem[]> {
  return (await readPlaces(db, nodeIds)).map((value) => ({ kind: 'place', key: value.nodeId, value }));
}

/** The places of these hosts, or of all, with the addresses by which they are known. A banned one has none. */
export async function readPlaces(db: Database, nodeIds?: readonly string[]): Promise<readonly PlaceRecord[]> {
  if (nodeIds?.length === 0) return [];
  const rows = await db
    .select({
      nodeId: nodePlaces.nodeId,
      locality: nodePlaces.locality,
      address: nodeAddresses.address,
      isBanned: nodes.isBanned,
    })
    .from(nodePlaces)
    .leftJoin(nodes, eq(nodes.nodeId, nodePlaces.nodeId))
    .leftJoin(
      nodeAddresses,
      and(eq(nodeAddresses.nodeId, nodePlaces.nodeId), eq(nodeAddresses.state, 'confirmed')),
    )
    .where(nodeIds === undefined ? undefined : inArray(nodePlaces.nodeId, [...nodeIds]))
    .orderBy(nodePlaces.nodeId, nodeAddresses.address);
  const places = new Map<string, PlaceRecord & { readonly addresses: string[] }>();
  for (const { nodeId, locality, address, isBanned } of rows) {
    const place = places.get(nodeId) ?? { nodeId: nodeId as SpiffeId, locality, addresses: [] };
    if (address !== null && isBanned === false) place.addresses.push(address);
    places.set(nodeId, place);
  }
  return [...places.values()];
}

function tooMany(): PicketError {
  return new PicketError('resource_exhausted', 'too_many_places', `${MAX_PLACES} hosts have a place already`);
}
