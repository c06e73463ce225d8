import type { TrustDomain } from './trust-domain.ts';

/** The authorities of one trust domain. Bundles of different trust domains are never merged. */
export interface TrustBundle {
  readonly trustDomain: TrustDomain;
  /** Grows with each change (SPIFFE_Trust_Domain_and_Bundle.md, `spiffe_sequence`). */
  readonly sequence: number;
  readonly refreshHintSeconds: number;
  /** CA certificates, DER. Empty means that everything of the domain is revoked. */
  readonly x509Authorities: readonly Uint8Array[];
}

/** The bundles that a host trusts, by trust domain. */
export type TrustBundles = ReadonlyMap<TrustDomain, TrustBundle>;
