import { buildSpiffeId, pathOf, type SpiffeId } from './spiffe-id.ts';
import type { TrustDomain } from './trust-domain.ts';

/**
 * The paths that Picket keeps for itself. A registration entry can never name one, so that no workload is ever taken for a
 * server, an agent or an operator.
 */
const RESERVED = '/picket';

/** Whose identity a SPIFFE ID is. Only `workload` may stand at either end of meshed traffic. */
export type IdentityKind = 'workload' | 'agent' | 'server' | 'operator' | 'authority';

/** The kind of identity that the path of an ID names. Unknown reserved paths count as `authority`: nobody accepts one. */
export function identityKindOf(id: SpiffeId): IdentityKind {
  const path = pathOf(id);
  if (path === '') return 'authority';
  if (path !== RESERVED && !path.startsWith(`${RESERVED}/`)) return 'workload';
  if (path === `${RESERVED}/server`) return 'server';
  if (path.startsWith(`${RESERVED}/agent/`)) return 'agent';
  if (path.startsWith(`${RESERVED}/operator/`)) return 'operator';
  return 'authority';
}

/** `spiffe://<trust domain>/picket/server` */
export function serverId(trustDomain: TrustDomain): SpiffeId {
  return buildSpiffeId(trustDomain, `${RESERVED}/server`);
}

/** `spiffe://<trust domain>/picket/agent/<attestation type>/<node>` */
export function agentId(
  trustDomain: TrustDomain,
  node: { readonly attestationType: string; readonly name: string },
): SpiffeId {
  return buildSpiffeId(trustDomain, `${RESERVED}/agent/${node.attestationType}/${node.name}`);
}

/** `spiffe://<trust domain>/picket/operator/<name>` */
export function operatorId(trustDomain: TrustDomain, name: string): SpiffeId {
  return buildSpiffeId(trustDomain, `${RESERVED}/operator/${name}`);
}

/** `spiffe://<trust domain>/picket/policy-signer`: stands in the certificate of the policy key, and never at an end of a connection. */
export function policySignerId(trustDomain: TrustDomain): SpiffeId {
  return buildSpiffeId(trustDomain, `${RESERVED}/policy-signer`);
}
