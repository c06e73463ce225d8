import { create } from '@bufbuild/protobuf';
import { type TrustBundle, type TrustBundles } from '../../shared/spiffe/trust-bundle.ts';
import { trustDomainOf } from '../../shared/spiffe/spiffe-id.ts';
import { parseTrustDomain, type TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { WorkloadIdentity } from '../identity/identity.ts';
import {
  X509BundlesResponseSchema,
  X509SVIDResponseSchema,
  type X509BundlesResponse,
  type X509SVID,
  type X509SVIDResponse,
} from './generated/workloadapi_pb.ts';

/** What one process may have: its identities, the default one first, and the bundles of their trust domains and of those they federate with. */
export interface Entitlement {
  readonly identities: readonly WorkloadIdentity[];
  readonly own: TrustBundles;
  readonly federated: TrustBundles;
}

/**
 * What the entries of a process entitle it to, as far as it is there: an identity without its bundle is left out, since its bundle is a mandatory
 * field (SPIFFE_Workload_API.md 5.2.1).
 */
export function buildEntitlement(
  entryIds: readonly string[],
  held: { readonly identities: ReadonlyMap<string, WorkloadIdentity>; readonly bundles: TrustBundles },
): Entitlement {
  const identities: WorkloadIdentity[] = [];
  const own = new Map<TrustDomain, TrustBundle>();
  const federated = new Map<TrustDomain, TrustBundle>();
  for (const entryId of entryIds) {
    const identity = held.identities.get(entryId);
    if (identity === undefined) continue;
    const trustDomain = trustDomainOf(identity.svid.spiffeId);
    const bundle = held.bundles.get(trustDomain);
    if (bundle === undefined) continue;
    identities.push(identity);
    own.set(trustDomain, bundle);
    for (const name of identity.entry.federatesWith) {
      const foreign = held.bundles.get(parseTrustDomain(name));
      if (foreign !== undefined) federated.set(foreign.trustDomain, foreign);
    }
  }
  for (const trustDomain of own.keys()) federated.delete(trustDomain);
  return { identities, own, federated };
}

/** The whole state as FetchX509SVID tells it (5.2.1). */
export function buildX509SvidResponse(entitlement: Entitlement): X509SVIDResponse {
  const hints = new Set<string>();
  return create(X509SVIDResponseSchema, {
    svids: entitlement.identities.map((identity) => buildSvid(identity, entitlement.own, hints)),
    federatedBundles: bundleMap(entitlement.federated),
  });
}

/** The whole state as FetchX509Bundles tells it (5.2.2). */
export function buildX509BundlesResponse(entitlement: Entitlement): X509BundlesResponse {
  return create(X509BundlesResponseSchema, {
    bundles: { ...bundleMap(entitlement.own), ...bundleMap(entitlement.federated) },
  });
}

/** A hint must be unique within a response: the first identity that has it keeps it. */
function buildSvid(
  { entry, svid }: WorkloadIdentity,
  own: TrustBundles,
  hints: Set<string>,
): Omit<X509SVID, '$typeName' | '$unknown'> {
  const hint = hints.has(entry.hint) ? '' : entry.hint;
  hints.add(hint);
  return {
    spiffeId: svid.spiffeId,
    x509Svid: concatenated(svid.chain),
    x509SvidKey: svid.privateKeyPkcs8.slice(),
    bundle: concatenated(own.get(trustDomainOf(svid.spiffeId))?.x509Authorities ?? []),
    hint,
  };
}

/** Keyed by the SPIFFE ID of the trust domain. */
function bundleMap(bundles: TrustBundles): Record<string, Uint8Array<ArrayBuffer>> {
  return Object.fromEntries(
    Array.from(bundles.values(), (bundle) => [
      `spiffe://${bundle.trustDomain}`,
      concatenated(bundle.x509Authorities),
    ]),
  );
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts));
}
