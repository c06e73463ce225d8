import { createHash } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Listener, NewEntry } from '../../shared/protocol/registration.ts';
import { parseNodeAddress } from '../agents/node-address.ts';
import { identityKindOf } from '../../shared/spiffe/reserved-path.ts';
import { trustDomainOf } from '../../shared/spiffe/spiffe-id.ts';
import { parseTrustDomain, type TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { requireWorkloadSelector } from '../../shared/spiffe/workload-selector.ts';

/**
 * The entry in its one spelling: lists sorted and without repetition. Throws `invalid_argument`: `spiffe_id_foreign`, `spiffe_id_reserved`,
 * `parent_invalid`, `selector_unknown`, `listener_repeated`, `gateway_connects_nobody`, `trust_domain_invalid`, `text_invalid`.
 */
export function normalizeEntry(entry: NewEntry, trustDomain: TrustDomain): NewEntry {
  requireWorkload(entry, trustDomain);
  requireParent(entry, trustDomain);
  entry.selectors.forEach(requireWorkloadSelector);
  if (entry.hint.includes('\0')) throw invalid('text_invalid', 'The hint holds a NUL character');
  // Field by field: what else the caller's object holds is none of the entry's business.
  return {
    spiffeId: entry.spiffeId,
    parentId: entry.parentId,
    ttlSeconds: entry.ttlSeconds,
    hint: entry.hint,
    selectors: unique(entry.selectors),
    federatesWith: unique(entry.federatesWith.map(parseTrustDomain)),
    dnsNames: unique(entry.dnsNames),
    listeners: requireListeners(entry.listeners),
  };
}

/** SHA-256 over what makes an entry the same as another: SPIFFE ID, parent and selectors (sorted). */
export function grantHashOf(entry: Pick<NewEntry, 'spiffeId' | 'parentId' | 'selectors'>): string {
  // JSON, because a selector may hold any separator.
  const grant = JSON.stringify([entry.spiffeId, entry.parentId, entry.selectors]);
  return createHash('sha256').update(grant).digest('hex');
}

function requireWorkload(entry: NewEntry, trustDomain: TrustDomain): void {
  if (trustDomainOf(entry.spiffeId) !== trustDomain)
    throw invalid(
      'spiffe_id_foreign',
      `Cannot register "${entry.spiffeId}": it is not of trust domain "${trustDomain}"`,
    );
  if (identityKindOf(entry.spiffeId) !== 'workload')
    throw invalid(
      'spiffe_id_reserved',
      `Cannot register "${entry.spiffeId}": it is no path of a workload (the empty path and /picket are reserved)`,
    );
}

function requireParent(entry: NewEntry, trustDomain: TrustDomain): void {
  if (trustDomainOf(entry.parentId) === trustDomain && identityKindOf(entry.parentId) === 'agent') return;
  throw invalid(
    'parent_invalid',
    `Cannot register under "${entry.parentId}": expected the SPIFFE ID of an agent, spiffe://${trustDomain}/picket/agent/…`,
  );
}

function requireListeners(listeners: readonly Listener[]): Listener[] {
  const sorted = listeners
    .map((listener) =>
      listener.address === undefined
        ? listener
        : { ...listener, address: parseNodeAddress(listener.address) },
    )
    .toSorted((a, b) => a.port - b.port || (a.address ?? '').localeCompare(b.address ?? ''));
  const repeated = sorted.find(
    (listener, i) => sorted[i + 1]?.port === listener.port && sorted[i + 1]?.address === listener.address,
  );
  if (repeated !== undefined)
    throw invalid('listener_repeated', `Port ${repeated.port} is listed more than once`);
  sorted.forEach(requireProgram);
  return sorted;
}

/** No program listens at the port of a gateway that could be told by its connection who calls; the agent itself does. */
function requireProgram({ port, protocol, proxyProtocol, transparent }: Listener): void {
  if (protocol !== 'egress' || (proxyProtocol === undefined && transparent === undefined)) return;
  throw invalid(
    'gateway_connects_nobody',
    `Port ${port} is a gateway's: there is no program that would be connected with the PROXY protocol or from the caller's address`,
  );
}

function unique<T extends string>(values: readonly T[]): T[] {
  return [...new Set(values)].toSorted();
}

function invalid(reason: string, message: string): PicketError {
  return new PicketError('invalid_argument', reason, message);
}
