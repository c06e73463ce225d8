import { hash } from 'node:crypto';
import { KEY_USAGE, PURPOSE } from '../wire/x509-extensions.ts';
import type { ParsedCertificate } from '../wire/x509-certificate.ts';
import { MAX_CHAIN_LENGTH, readCertificate, verifyCertificatePath } from './certificate-path.ts';
import { certificateRefused } from './certificate-refusal.ts';
import { parseSpiffeId, pathOf, trustDomainOf, type SpiffeId } from './spiffe-id.ts';
import type { TrustBundles } from './trust-bundle.ts';
import type { TrustDomain } from './trust-domain.ts';

/** What the leaf of an X509-SVID says of itself. */
export interface LeafIdentity {
  readonly spiffeId: SpiffeId;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Lower-case hexadecimal. */
  readonly serial: string;
  /** SHA-256 of the leaf's DER, lower-case hexadecimal. */
  readonly fingerprintSha256: string;
}

/** A leaf whose path was verified. `notAfterMs` is when the first certificate of the path ends, at the latest the leaf itself. */
export interface VerifiedSvid extends LeafIdentity {
  readonly trustDomain: TrustDomain;
  /** When the last certificate of the path begins, at the earliest the leaf itself. */
  readonly pathNotBeforeMs: number;
}

/**
 * Verifies an X509-SVID (X509-SVID.md 5): `chain` is the leaf followed by its intermediates, DER, at most four. Trust comes
 * only from the bundle of the trust domain that the leaf itself names. Throws `unauthenticated`, reasons of
 * `CertificateRefusal`; whoever the certificate claims to be is then nobody.
 */
export function verifyX509Svid(
  chain: readonly Uint8Array[],
  bundles: TrustBundles,
  nowMs: number,
): VerifiedSvid {
  const [leafDer] = chain;
  if (leafDer === undefined || chain.length > MAX_CHAIN_LENGTH)
    throw certificateRefused('chain_length_refused', `its chain has ${chain.length} certificates`);
  const leaf = readCertificate(leafDer);
  const identity = describeLeaf(leaf);
  const trustDomain = trustDomainOf(identity.spiffeId);
  const bundle = bundles.get(trustDomain);
  if (bundle === undefined || bundle.trustDomain !== trustDomain)
    throw certificateRefused('trust_domain_unknown', `trust domain ${trustDomain} is not known`);
  const path = verifyCertificatePath([leaf, ...chain.slice(1).map(readCertificate)], { bundle, nowMs });
  const { notBeforeMs: pathNotBeforeMs, notAfterMs } = path;
  return { ...identity, trustDomain, pathNotBeforeMs, notAfterMs };
}

/**
 * The identity in a leaf whose path was verified before, as on a resumed TLS session; nothing but its profile is checked
 * here. Throws like `verifyX509Svid`.
 */
export function readLeafIdentity(der: Uint8Array): LeafIdentity {
  return describeLeaf(readCertificate(der));
}

function describeLeaf(leaf: ParsedCertificate): LeafIdentity {
  requireLeafProfile(leaf);
  return {
    spiffeId: readSpiffeId(leaf),
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: leaf.notAfterMs,
    serial: leaf.serial,
    fingerprintSha256: hash('sha256', leaf.der, 'hex'),
  };
}

/** X509-SVID.md 4: a leaf is never an authority, and is made for TLS on both sides if it says what for. */
function requireLeafProfile(leaf: ParsedCertificate): void {
  const { basicConstraints, keyUsage, extendedKeyUsage } = leaf.extensions;
  if (basicConstraints?.isAuthority === true) throw profileInvalid('an authority is not a workload');
  if (keyUsage?.isCritical !== true) throw profileInvalid('it has no critical key usage');
  if (!keyUsage.bits.has(KEY_USAGE.digitalSignature)) throw profileInvalid('its key may not sign');
  if (keyUsage.bits.has(KEY_USAGE.keyCertSign) || keyUsage.bits.has(KEY_USAGE.cRLSign))
    throw profileInvalid('its key may sign certificates or revocations');
  const isForTls = [PURPOSE.serverAuth, PURPOSE.clientAuth].every(
    (purpose) => extendedKeyUsage === undefined || extendedKeyUsage.includes(purpose),
  );
  if (!isForTls) throw profileInvalid('it is not made for TLS on both sides');
}

/** The one URI SAN. With two, which one counts would be a guess (X509-SVID.md 2). */
function readSpiffeId(leaf: ParsedCertificate): SpiffeId {
  const names = leaf.extensions.subjectAlternativeName;
  const [uri, ...others] = names?.uris ?? [];
  if (uri === undefined || others.length > 0)
    throw certificateRefused('spiffe_id_invalid', 'it does not have exactly one URI as its name');
  if (leaf.isSubjectEmpty && names?.isCritical !== true)
    throw profileInvalid('its subject is empty and its alternative name not critical');
  const id = parseLeafId(uri);
  if (pathOf(id) === '')
    throw certificateRefused('spiffe_id_invalid', `${id} is the name of a trust domain, not of a workload`);
  return id;
}

function parseLeafId(uri: string): SpiffeId {
  try {
    return parseSpiffeId(uri);
  } catch (cause) {
    throw certificateRefused('spiffe_id_invalid', 'its name is not a SPIFFE ID', cause);
  }
}

function profileInvalid(why: string): ReturnType<typeof certificateRefused> {
  return certificateRefused('leaf_profile_invalid', why);
}
