import { trustDomainOf, type SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { IdentitySource } from '../identity/identity.ts';
import type { HbonePeer } from './hbone-peers.ts';

/** How the host stands with HBONE. */
export interface HboneStatus {
  readonly isAccepted: boolean;
  /** Who of this host may be called: HBONE names nobody, so it is answered where there is exactly one. */
  readonly callable: readonly SpiffeId[];
  /** How many peers the configuration names. */
  readonly peers: number;
  /** Those of them whose trust domain has no bundle here: nobody can prove to be one. */
  readonly untrusted: readonly SpiffeId[];
}

/** The state of HBONE by configuration and identities; `source` is undefined before the host has attested. */
export function describeHbone(
  config: { readonly isAccepted: boolean; readonly peers: readonly HbonePeer[] },
  source: Pick<IdentitySource, 'identities' | 'bundles'> | undefined,
): HboneStatus {
  const callable = Array.from(source?.identities.current.values() ?? [])
    .filter(({ entry }) => entry.listeners.length > 0)
    .map(({ svid }) => svid.spiffeId);
  const isTrusted = ({ spiffeId }: HbonePeer): boolean =>
    source === undefined || source.bundles.current.has(trustDomainOf(spiffeId));
  return {
    isAccepted: config.isAccepted,
    callable: [...new Set(callable)].toSorted(),
    peers: config.peers.length,
    untrusted: config.peers.filter((peer) => !isTrusted(peer)).map(({ spiffeId }) => spiffeId),
  };
}
