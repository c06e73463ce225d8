import { PicketError } from '../../shared/errors/errors.ts';
import { parseEnforcementScope, type EnforcementScope } from '../../shared/policy/enforcement.ts';
import type { QuarantineRecord } from '../../shared/protocol/quarantine.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { PlaceRecord, ServiceRecord } from '../../shared/protocol/service.ts';
import type { DirectoryRecord, SyncItem } from '../../shared/protocol/sync.ts';
import { identityKindOf } from '../../shared/spiffe/reserved-path.ts';
import { trustDomainOf, type SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { canonicalAddress, isHostAddress } from '../directory/host-address.ts';

/* What an agent believes of the single things that its server tells: all here throw `unavailable`, reason `sync_refused`, for what no server may say. */

/** Names of one host only: with a loopback address in the directory, any host could stand in for the one that is meant. */
export function readRecord(item: Extract<SyncItem, { kind: 'directory' }>): DirectoryRecord {
  const { network, address, port, spiffeId } = item.value;
  requireKey(item, [network, address, port, spiffeId].join('|'));
  requireWorkload(spiffeId);
  return { ...item.value, address: requireHostAddress(address) };
}

function requireHostAddress(address: string): string {
  const canonical = canonicalAddress(address);
  if (canonical === undefined || !isHostAddress(canonical))
    throw syncRefused(`its directory names ${address}, which is not one host's`);
  return canonical;
}

/** Addresses come in canonical spelling. */
export function readQuarantine(item: Extract<SyncItem, { kind: 'quarantine' }>): QuarantineRecord {
  const { kind, subject, addresses } = item.value;
  requireKey(item, `${kind} ${subject}`);
  return { ...item.value, addresses: addresses.map((address) => canonicalAddress(address) ?? address) };
}

/** An address that every host has would lead each host's own traffic away. */
export function readService(
  item: Extract<SyncItem, { kind: 'service' }>,
  trustDomain: TrustDomain,
): ServiceRecord {
  const { name, spiffeId, addresses } = item.value;
  requireKey(item, name);
  requireWorkload(spiffeId);
  requireOwnDomain(spiffeId, trustDomain);
  return {
    ...item.value,
    addresses: addresses.map(({ address, port }) => ({ address: requireHostAddress(address), port })),
  };
}

/** Addresses come in canonical spelling, and are one host's. */
export function readPlace(item: Extract<SyncItem, { kind: 'place' }>): PlaceRecord {
  requireKey(item, item.value.nodeId);
  return { ...item.value, addresses: item.value.addresses.map(requireHostAddress) };
}

/** An entry of this trust domain, for a workload. */
export function readEntry(item: Extract<SyncItem, { kind: 'entry' }>, trustDomain: TrustDomain): Entry {
  const { entryId, spiffeId } = item.value;
  requireKey(item, entryId);
  requireWorkload(spiffeId);
  requireOwnDomain(spiffeId, trustDomain);
  return item.value;
}

/** A scope that cannot be read names nobody whose denials would pass: it is refused, not passed over. */
export function readScope(text: string): EnforcementScope {
  let scope: EnforcementScope | undefined;
  try {
    scope = parseEnforcementScope(text);
  } catch {
    scope = undefined;
  }
  if (scope === text) return scope;
  throw syncRefused('it names a scope of enforcement that cannot be read');
}

/** An item stands under the key that its value says. */
export function requireKey(item: SyncItem, key: string): void {
  if (item.key !== key) throw syncRefused(`${item.kind} ${key} stands under the key ${item.key}`);
}

function requireWorkload(id: SpiffeId): void {
  if (identityKindOf(id) !== 'workload') throw syncRefused(`${id} is not the identity of a workload`);
}

/** A workload of another domain has its identity from that domain, never from our server. */
function requireOwnDomain(id: SpiffeId, trustDomain: TrustDomain): void {
  if (trustDomainOf(id) !== trustDomain) throw syncRefused(`${id} is not of ${trustDomain}`);
}

/** What the server sent cannot be taken. */
export function syncRefused(why: string): PicketError {
  return new PicketError('unavailable', 'sync_refused', `Cannot take what the server sent: ${why}`);
}
