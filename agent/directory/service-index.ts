import type { PlaceRecord, ServiceRecord } from '../../shared/protocol/service.ts';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';

/** How far a member is from this host, the nearest first. What nobody declared the place of is `elsewhere`. */
export const DISTANCES = ['host', 'zone', 'region', 'elsewhere'] as const;
export type Distance = (typeof DISTANCES)[number];

/** A confirmed address of a host with a listener of the service's identity. */
export interface Member {
  readonly address: string;
  readonly port: number;
  /** Where its host is; absent: nobody said it. */
  readonly locality?: string;
  readonly distance: Distance;
}

/** A service in several places. */
export interface FoundService {
  readonly name: string;
  /** Who must answer, whichever member is taken. */
  readonly spiffeId: SpiffeId;
  /** The nearest first. */
  readonly members: readonly Member[];
}

/** What services are made of; addresses in canonical spelling. */
export interface ServiceSources {
  readonly services: Iterable<ServiceRecord>;
  readonly places: ReadonlyMap<string, PlaceRecord>;
  /** By address and port; `null` where two contradict each other. */
  readonly records: Iterable<DirectoryRecord | null>;
  /** SPIFFE ID of this host's agent; undefined while it is not known. */
  readonly ownNode: SpiffeId | undefined;
  readonly isOwnAddress: (address: string) => boolean;
}

/** Every service with the members that registration gives it now. A contradictory record makes nobody a member. */
export function buildServices(sources: ServiceSources): readonly {
  readonly record: ServiceRecord;
  readonly found: FoundService;
}[] {
  const membersOf = groupMembers(sources);
  return Array.from(sources.services, (record) => {
    const { name, spiffeId, port } = record;
    const members = membersOf.get(listenerOf(spiffeId, port)) ?? [];
    return { record, found: { name, spiffeId, members } };
  });
}

/**
 * A service as it is reached by one of its addresses: by members of the same family, where there are any. A host with an address of each would else be tried twice, and
 * a caller may have no route of the other family.
 */
export function reachableFrom(address: string, service: FoundService): FoundService {
  const isSix = address.includes(':');
  const members = service.members.filter((member) => member.address.includes(':') === isSix);
  return members.length === 0 ? service : { ...service, members };
}

/** How far a place is from another, by what operators declared of both. */
export function distanceBetween(own: string | undefined, other: string | undefined): Distance {
  if (own === undefined || other === undefined) return 'elsewhere';
  const [region, zone] = own.split('/');
  const [otherRegion, otherZone] = other.split('/');
  if (region !== otherRegion) return 'elsewhere';
  return zone !== undefined && zone === otherZone ? 'zone' : 'region';
}

/** By listener, the nearest first. */
function groupMembers(sources: ServiceSources): ReadonlyMap<string, readonly Member[]> {
  const { places, records, ownNode, isOwnAddress } = sources;
  const own = ownNode === undefined ? undefined : places.get(ownNode)?.locality;
  const localities = new Map<string, string>();
  for (const { locality, addresses } of places.values())
    for (const address of addresses) localities.set(address, locality);
  const groups = new Map<string, Member[]>();
  for (const record of records) {
    if (record === null) continue;
    const { address, port, spiffeId } = record;
    const locality = localities.get(address);
    const distance = isOwnAddress(address) ? 'host' : distanceBetween(own, locality);
    const listener = listenerOf(spiffeId, port);
    const group = groups.get(listener) ?? [];
    group.push({ address, port, ...(locality === undefined ? {} : { locality }), distance });
    groups.set(listener, group);
  }
  for (const group of groups.values()) group.sort((a, b) => rankOf(a) - rankOf(b));
  return groups;
}

function listenerOf(spiffeId: SpiffeId, port: number): string {
  return `${spiffeId} ${port}`;
}

function rankOf({ distance }: Member): number {
  return DISTANCES.indexOf(distance);
}
