import { isDeepStrictEqual } from 'node:util';
import type { EnforcementMode, EnforcementScope } from '../../shared/policy/enforcement.ts';
import type { SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import type { QuarantineRecord } from '../../shared/protocol/quarantine.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { PlaceRecord, ServiceRecord } from '../../shared/protocol/service.ts';
import type { DirectoryRecord, SyncChange, SyncItem, SyncMessage } from '../../shared/protocol/sync.ts';
import type { TrustBundle, TrustBundles } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { fromWireBundle, toWireBundle } from '../../shared/spiffe/wire-bundle.ts';
import {
  readEntry,
  readPlace,
  readQuarantine,
  readRecord,
  readScope,
  readService,
  requireKey,
  syncRefused,
} from './sync-items.ts';

/** Where in the server's change log an agent stands. */
export interface SyncPosition {
  readonly epoch: string;
  readonly cursor: number;
}

/** Everything that the server told this agent. Each part keeps its reference as long as nothing in it changes. */
export interface SyncState {
  /** Undefined before the first snapshot. */
  readonly position: SyncPosition | undefined;
  /** By entry id. */
  readonly entries: ReadonlyMap<string, Entry>;
  readonly bundles: TrustBundles;
  /** By key. */
  readonly directory: ReadonlyMap<string, DirectoryRecord>;
  /** The mesh's policy, not verified. */
  readonly policy: SignedPolicy | undefined;
  /** Who neither calls nor is called, by key; addresses in canonical spelling. */
  readonly quarantines: ReadonlyMap<string, QuarantineRecord>;
  /** Modes of enforcement by scope: what is not named is enforced. */
  readonly enforcement: ReadonlyMap<EnforcementScope, EnforcementMode>;
  /** Services in several places, by name; addresses in canonical spelling. */
  readonly services: ReadonlyMap<string, ServiceRecord>;
  /** Where hosts are, by the SPIFFE ID of their agent; addresses in canonical spelling. */
  readonly places: ReadonlyMap<string, PlaceRecord>;
}

/** A message that says something. */
export type SyncUpdate = Exclude<SyncMessage, { kind: 'ping' }>;
export type SyncSnapshot = Extract<SyncMessage, { kind: 'snapshot' }>;

const MESH_POLICY_KEY = 'mesh';

/** What an agent knows before anybody told it anything. */
export const EMPTY_SYNC_STATE: SyncState = {
  position: undefined,
  entries: new Map(),
  bundles: new Map(),
  directory: new Map(),
  policy: undefined,
  quarantines: new Map(),
  enforcement: new Map(),
  services: new Map(),
  places: new Map(),
};

/**
 * The state after a message. Throws `unavailable`, reason `sync_refused`, for a message that contradicts itself or what came before, or that says
 * what no server may say; the state then stays as it is and the agent asks for a snapshot.
 */
export function applySyncUpdate(state: SyncState, update: SyncUpdate, trustDomain: TrustDomain): SyncState {
  const draft =
    update.kind === 'snapshot' ? emptyDraft(trustDomain) : continueDraft(state, update, trustDomain);
  if (update.kind === 'snapshot') for (const item of update.items) putNew(draft, item);
  else for (const change of update.changes) applyChange(draft, change);
  requireBundle(draft.bundles, trustDomain);
  return settle(state, draft, { epoch: update.epoch, cursor: update.cursor });
}

/** The state with a bundle that attestation or renewal brought, unless a newer one is known. */
export function withBundle(state: SyncState, bundle: TrustBundle): SyncState {
  const held = state.bundles.get(bundle.trustDomain);
  if (held !== undefined && (held.sequence > bundle.sequence || isSameBundle(held, bundle))) return state;
  return { ...state, bundles: new Map(state.bundles).set(bundle.trustDomain, bundle) };
}

/** Where a kept state stands that the server has told nothing for: no server has such an epoch. */
export const NOTHING_TOLD: SyncPosition = { epoch: '', cursor: 0 };

/** The state as one snapshot: what is kept for a restart; at `NOTHING_TOLD` where the server has told nothing. */
export function toSnapshot(state: SyncState): SyncSnapshot {
  const items: SyncItem[] = [];
  for (const [key, value] of state.entries) items.push({ kind: 'entry', key, value });
  for (const [key, value] of state.bundles) items.push({ kind: 'bundle', key, value: toWireBundle(value) });
  for (const [key, value] of state.directory) items.push({ kind: 'directory', key, value });
  if (state.policy !== undefined) items.push({ kind: 'policy', key: MESH_POLICY_KEY, value: state.policy });
  for (const [key, value] of state.quarantines) items.push({ kind: 'quarantine', key, value });
  for (const [scope, mode] of state.enforcement)
    items.push({ kind: 'enforcement', key: scope, value: { scope, mode } });
  for (const [key, value] of state.services) items.push({ kind: 'service', key, value });
  for (const [key, value] of state.places) items.push({ kind: 'place', key, value });
  return { kind: 'snapshot', ...(state.position ?? NOTHING_TOLD), items };
}

interface Draft {
  readonly trustDomain: TrustDomain;
  readonly entries: Map<string, Entry>;
  readonly bundles: Map<TrustDomain, TrustBundle>;
  readonly directory: Map<string, DirectoryRecord>;
  policy: SignedPolicy | undefined;
  readonly quarantines: Map<string, QuarantineRecord>;
  readonly enforcement: Map<EnforcementScope, EnforcementMode>;
  readonly services: Map<string, ServiceRecord>;
  readonly places: Map<string, PlaceRecord>;
}

function emptyDraft(trustDomain: TrustDomain): Draft {
  return {
    trustDomain,
    entries: new Map(),
    bundles: new Map(),
    directory: new Map(),
    policy: undefined,
    quarantines: new Map(),
    enforcement: new Map(),
    services: new Map(),
    places: new Map(),
  };
}

function continueDraft(state: SyncState, update: SyncUpdate, trustDomain: TrustDomain): Draft {
  const { position } = state;
  if (position === undefined) throw syncRefused('it begins with changes, and there is nothing to change');
  if (position.epoch !== update.epoch)
    throw syncRefused(`its changes are of epoch ${update.epoch}, not of ${position.epoch}`);
  if (update.cursor < position.cursor)
    throw syncRefused(`its changes go back from ${position.cursor} to ${update.cursor}`);
  return {
    trustDomain,
    entries: new Map(state.entries),
    bundles: new Map(state.bundles),
    directory: new Map(state.directory),
    policy: state.policy,
    quarantines: new Map(state.quarantines),
    enforcement: new Map(state.enforcement),
    services: new Map(state.services),
    places: new Map(state.places),
  };
}

function applyChange(draft: Draft, change: SyncChange): void {
  if (change.op === 'put') put(draft, change.item);
  else if (change.kind === 'policy') draft.policy = undefined;
  else partOf(draft, change.kind).delete(change.key);
}

function putNew(draft: Draft, item: SyncItem): void {
  const { kind, key } = item;
  const isKnown = kind === 'policy' ? draft.policy !== undefined : partOf(draft, kind).has(key);
  if (isKnown) throw syncRefused(`its snapshot has two of ${kind} ${key}`);
  put(draft, item);
}

/** What is held of a kind, by key; of the policy there is but one. */
function partOf(
  draft: Draft,
  kind: Exclude<SyncItem['kind'], 'policy'>,
): Pick<Map<string, unknown>, 'has' | 'delete'> {
  return {
    entry: draft.entries,
    bundle: draft.bundles,
    directory: draft.directory,
    quarantine: draft.quarantines,
    enforcement: draft.enforcement,
    service: draft.services,
    place: draft.places,
  }[kind];
}

function put(draft: Draft, item: SyncItem): void {
  switch (item.kind) {
    case 'entry':
      draft.entries.set(item.key, readEntry(item, draft.trustDomain));
      return;
    case 'bundle':
      putBundle(draft, item);
      return;
    case 'directory':
      draft.directory.set(item.key, readRecord(item));
      return;
    case 'policy':
      requireKey(item, MESH_POLICY_KEY);
      draft.policy = item.value;
      return;
    case 'quarantine':
      draft.quarantines.set(item.key, readQuarantine(item));
      return;
    case 'enforcement':
      requireKey(item, item.value.scope);
      draft.enforcement.set(readScope(item.value.scope), item.value.mode);
      return;
    case 'service':
      draft.services.set(item.key, readService(item, draft.trustDomain));
      return;
    case 'place':
      draft.places.set(item.key, readPlace(item));
  }
}

function putBundle(draft: Draft, item: Extract<SyncItem, { kind: 'bundle' }>): void {
  const bundle = fromWireBundle(item.value);
  requireKey(item, bundle.trustDomain);
  const held = draft.bundles.get(bundle.trustDomain);
  // Renewal may have brought a newer one already: an older one never replaces it.
  if (held === undefined || held.sequence <= bundle.sequence) draft.bundles.set(bundle.trustDomain, bundle);
}

/** Whether two states differ in their cursor alone. Compared by reference: an update keeps what it does not change. */
export function saysTheSame(a: SyncState, b: SyncState): boolean {
  return (
    a.entries === b.entries &&
    a.bundles === b.bundles &&
    a.directory === b.directory &&
    a.policy === b.policy &&
    a.quarantines === b.quarantines &&
    a.enforcement === b.enforcement &&
    a.services === b.services &&
    a.places === b.places
  );
}

/** An agent without an authority of its own domain could never again be told anything. */
function requireBundle(bundles: TrustBundles, trustDomain: TrustDomain): void {
  const own = bundles.get(trustDomain);
  if (own === undefined || own.x509Authorities.length === 0)
    throw syncRefused(`it leaves no authority of ${trustDomain}`);
}

function settle(previous: SyncState, draft: Draft, position: SyncPosition): SyncState {
  return {
    position,
    entries: keepIfSame(previous.entries, draft.entries, isDeepStrictEqual),
    bundles: keepIfSame(previous.bundles, draft.bundles, isSameBundle),
    directory: keepIfSame(previous.directory, draft.directory, isDeepStrictEqual),
    policy: isDeepStrictEqual(previous.policy, draft.policy) ? previous.policy : draft.policy,
    quarantines: keepIfSame(previous.quarantines, draft.quarantines, isDeepStrictEqual),
    enforcement: keepIfSame(previous.enforcement, draft.enforcement, Object.is),
    services: keepIfSame(previous.services, draft.services, isDeepStrictEqual),
    places: keepIfSame(previous.places, draft.places, isDeepStrictEqual),
  };
}

/** A snapshot after a reconnection mostly says what is known: nobody has to act on that. */
function keepIfSame<K, V>(
  previous: ReadonlyMap<K, V>,
  next: ReadonlyMap<K, V>,
  isSame: (a: V, b: V) => boolean,
): ReadonlyMap<K, V> {
  if (previous.size !== next.size) return next;
  for (const [key, value] of next) {
    const old = previous.get(key);
    if (old === undefined || (old !== value && !isSame(old, value))) return next;
  }
  return previous;
}

function isSameBundle(a: TrustBundle, b: TrustBundle): boolean {
  return isDeepStrictEqual(toWireBundle(a), toWireBundle(b));
}
