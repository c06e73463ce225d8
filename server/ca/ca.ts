import type { IssuedSvid } from '../../shared/protocol/attestation.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';

/** A certificate as issued, before it is written to any wire. */
export interface IssuedCertificate {
  readonly spiffeId: SpiffeId;
  /** Leaf first, then intermediates, DER. The root is not in it. */
  readonly chain: readonly Uint8Array[];
  /** Lower-case hexadecimal. */
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** What goes into a leaf. */
export interface LeafRequest {
  readonly spiffeId: SpiffeId;
  /** SubjectPublicKeyInfo, DER, of an EC P-256 or P-384, RSA (2048 to 4096) or Ed25519 key. */
  readonly publicKeySpki: Uint8Array;
  /** Wished life; the leaf never outlives the intermediate. */
  readonly ttlSeconds: number;
  readonly dnsNames: readonly string[];
  /** IPv4 and IPv6 addresses in text form; none if absent. */
  readonly ipAddresses?: readonly string[];
}

/** The online certificate authority: it holds the intermediate, never the root. */
export interface CertificateAuthority {
  /** The trust bundle of our own trust domain. */
  readonly bundle: Watched<TrustBundle>;
  /**
   * Signs a leaf after the profile of X509-SVID.md; valid from five minutes before now. Throws `invalid_argument`: reason `spiffe_id_refused` for an ID of another
   * trust domain or an authority's own, `public_key_refused` for a key that is not acceptable; `failed_precondition`, reason `intermediate_expired`.
   */
  issue(request: LeafRequest): Promise<IssuedCertificate>;
  /** The certificate of the policy key, DER: what `signPolicy` puts beside a signature. */
  readonly policyCertificate: Uint8Array;
  /**
   * Signs with the policy key, whose certificate the offline root made; `chain` goes beside the signature. Throws `failed_precondition`, reason
   * `policy_signer_expired`.
   */
  signPolicy(
    statement: Uint8Array,
  ): Promise<{ readonly signature: Uint8Array; readonly chain: readonly Uint8Array[] }>;
}

/** Certificates are valid from this long before they are made, for clocks that are behind. */
export const CLOCK_SKEW_MS = 5 * 60_000;

/** The certificate as the protocol carries it. */
export function toIssuedSvid(certificate: IssuedCertificate): IssuedSvid {
  return {
    spiffeId: certificate.spiffeId,
    chain: certificate.chain.map((der) => Buffer.from(der).toString('base64')),
    notAfter: new Date(certificate.notAfterMs).toISOString(),
  };
}
