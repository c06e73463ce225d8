import type { EnforcementMode, EnforcementScope } from '../../shared/policy/enforcement.ts';
import type { QuarantineRecord } from '../../shared/protocol/quarantine.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { PlaceRecord, ServiceRecord } from '../../shared/protocol/service.ts';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { fromWireBundle, toWireBundle } from '../../shared/spiffe/wire-bundle.ts';
import { sealSvid, unsealSvid, type SealedSvid } from '../identity/held-svid.ts';
import type { WorkloadIdentity } from '../identity/identity.ts';
import type { IdentityManager } from '../identity/identity-manager.ts';

/** Everything that decisions of the data path stand on, but for the policy. Each part keeps its reference as long as nothing in it changes. */
export interface Knowledge {
  /** Whether the server has told anything. */
  readonly isTold: boolean;
  /** The SPIFFE ID of this host's agent. */
  readonly nodeId: SpiffeId | undefined;
  readonly quarantines: ReadonlyMap<string, QuarantineRecord>;
  readonly bundles: ReadonlyMap<TrustDomain, TrustBundle>;
  readonly directory: ReadonlyMap<string, DirectoryRecord>;
  readonly services: ReadonlyMap<string, ServiceRecord>;
  readonly places: ReadonlyMap<string, PlaceRecord>;
  readonly enforcement: ReadonlyMap<EnforcementScope, EnforcementMode>;
  readonly entries: ReadonlyMap<string, Entry>;
  /** With their keys; never the agent's own, which the data path does not use. */
  readonly identities: ReadonlyMap<string, WorkloadIdentity>;
}

export const NOTHING_KNOWN: Knowledge = {
  isTold: false,
  nodeId: undefined,
  quarantines: new Map(),
  bundles: new Map(),
  directory: new Map(),
  services: new Map(),
  places: new Map(),
  enforcement: new Map(),
  entries: new Map(),
  identities: new Map(),
};

/** What of a map is new or different, and which keys are gone. */
interface MapChange<V> {
  readonly put: readonly (readonly [string, V])[];
  readonly gone: readonly string[];
}

interface WireIdentity {
  readonly entry: Entry;
  readonly svid: SealedSvid;
  /** Where an intermediate ends before the leaf, earlier than the leaf says. */
  readonly notAfterMs: number;
}

/** What has changed, as JSON carries it; a part that is absent has not. */
export interface KnowledgeChange {
  readonly isTold: boolean;
  readonly nodeId: SpiffeId | null;
  readonly quarantines?: MapChange<QuarantineRecord>;
  readonly bundles?: MapChange<ReturnType<typeof toWireBundle>>;
  readonly directory?: MapChange<DirectoryRecord>;
  readonly services?: MapChange<ServiceRecord>;
  readonly places?: MapChange<PlaceRecord>;
  readonly enforcement?: MapChange<EnforcementMode>;
  readonly entries?: MapChange<Entry>;
  readonly identities?: MapChange<WireIdentity>;
}

/** What the agent knows now. */
export function knowledgeOf(manager: IdentityManager): Knowledge {
  const { position, quarantines, bundles, directory, services, places, enforcement, entries } =
    manager.sync.current;
  return {
    isTold: position !== undefined,
    nodeId: manager.nodeId,
    quarantines,
    bundles,
    directory,
    services,
    places,
    enforcement,
    entries,
    identities: manager.identities.current,
  };
}

/** How to get from `known` to `next`; undefined when they say the same. */
export function findChange(known: Knowledge, next: Knowledge): KnowledgeChange | undefined {
  const change: KnowledgeChange = {
    isTold: next.isTold,
    nodeId: next.nodeId ?? null,
    ...part(
      'quarantines',
      diff(known.quarantines, next.quarantines, (value) => value),
    ),
    ...part('bundles', diff(known.bundles, next.bundles, toWireBundle)),
    ...part(
      'directory',
      diff(known.directory, next.directory, (value) => value),
    ),
    ...part(
      'services',
      diff(known.services, next.services, (value) => value),
    ),
    ...part(
      'places',
      diff(known.places, next.places, (value) => value),
    ),
    ...part(
      'enforcement',
      diff(known.enforcement, next.enforcement, (value) => value),
    ),
    ...part(
      'entries',
      diff(known.entries, next.entries, (value) => value),
    ),
    ...part('identities', diff(known.identities, next.identities, toWireIdentity, isSameIdentity)),
  };
  const isSame =
    known.isTold === next.isTold && known.nodeId === next.nodeId && Object.keys(change).length === 2;
  return isSame ? undefined : change;
}

/** The mirror of `findChange`. Throws where an SVID is none, which leaves everything as it was. */
export function applyChange(known: Knowledge, change: KnowledgeChange): Knowledge {
  return {
    isTold: change.isTold,
    nodeId: change.nodeId ?? undefined,
    quarantines: patch(known.quarantines, change.quarantines, (value) => value),
    bundles: patch(known.bundles, change.bundles, fromWireBundle),
    directory: patch(known.directory, change.directory, (value) => value),
    services: patch(known.services, change.services, (value) => value),
    places: patch(known.places, change.places, (value) => value),
    enforcement: patch(known.enforcement, change.enforcement, (value) => value),
    entries: patch(known.entries, change.entries, (value) => value),
    identities: patch(known.identities, change.identities, fromWireIdentity),
  };
}

function diff<K extends string, V, W>(
  known: ReadonlyMap<K, V>,
  next: ReadonlyMap<K, V>,
  encode: (value: V) => W,
  isSame: (a: V, b: V) => boolean = Object.is,
): MapChange<W> | undefined {
  if (known === next) return undefined;
  const put: [string, W][] = [];
  for (const [key, value] of next) {
    const old = known.get(key);
    if (old === undefined || !isSame(old, value)) put.push([key, encode(value)]);
  }
  const gone = Array.from(known.keys()).filter((key) => !next.has(key));
  return put.length === 0 && gone.length === 0 ? undefined : { put, gone };
}

function patch<K extends string, V, W>(
  known: ReadonlyMap<K, V>,
  change: MapChange<W> | undefined,
  decode: (value: W) => V,
): ReadonlyMap<K, V> {
  if (change === undefined) return known;
  const next = new Map(known);
  for (const key of change.gone) next.delete(key as K);
  for (const [key, value] of change.put) next.set(key as K, decode(value));
  return next;
}

function part<Name extends string, V>(name: Name, value: V | undefined): { readonly [N in Name]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [N in Name]?: V });
}

function isSameIdentity(a: WorkloadIdentity, b: WorkloadIdentity): boolean {
  return a.svid === b.svid && a.entry === b.entry;
}

function toWireIdentity({ entry, svid }: WorkloadIdentity): WireIdentity {
  return { entry, svid: sealSvid(svid), notAfterMs: svid.notAfterMs };
}

function fromWireIdentity({ entry, svid, notAfterMs }: WireIdentity): WorkloadIdentity {
  return { entry, svid: { ...unsealSvid(svid), notAfterMs } };
}
