import { KEY_USAGE } from '../wire/x509-extensions.ts';
import { parseX509Certificate, type ParsedCertificate } from '../wire/x509-certificate.ts';
import { certificateRefused } from './certificate-refusal.ts';
import { isSignatureValid } from './signature-algorithm.ts';
import { parseSpiffeId, pathOf, trustDomainOf } from './spiffe-id.ts';
import type { TrustBundle } from './trust-bundle.ts';

/** The longest chain that is looked at, leaf included. */
export const MAX_CHAIN_LENGTH = 4;

/** Takes a certificate apart like `parseX509Certificate`, with the refusal `certificate_malformed`. */
export function readCertificate(der: Uint8Array): ParsedCertificate {
  try {
    return parseX509Certificate(der);
  } catch (cause) {
    throw certificateRefused('certificate_malformed', 'it cannot be read', cause);
  }
}

/**
 * Walks from the leaf (first in `chain`) over each following certificate to an authority of `bundle`, which is the only place that
 * trust comes from (RFC 5280 6.1, without policies and name constraints: a certificate that has those is refused). Each
 * certificate must be valid at `nowMs` and each must be signed by the next. What stands in `chain` after an authority was
 * reached is not looked at. Returns when the last certificate of the path begins and the first one ends. Throws `unauthenticated`, reasons of
 * `CertificateRefusal`. The leaf's own profile is the caller's to check.
 */
export function verifyCertificatePath(
  chain: readonly ParsedCertificate[],
  trust: { readonly bundle: TrustBundle; readonly nowMs: number },
): { readonly notBeforeMs: number; readonly notAfterMs: number } {
  const [leaf, ...intermediates] = chain;
  if (leaf === undefined || chain.length > MAX_CHAIN_LENGTH)
    throw certificateRefused('chain_length_refused', `its chain has ${chain.length} certificates`);
  requireValid(leaf, trust.nowMs);
  const roots = authoritiesOf(trust.bundle);
  let current = leaf;
  let { notBeforeMs, notAfterMs } = leaf;
  for (let authoritiesBelow = 0; ; authoritiesBelow++) {
    const check = { ...trust, authoritiesBelow };
    const root = findRoot(roots, current, check);
    const next = root ?? intermediates[authoritiesBelow];
    if (next === undefined || !hasSigned(next, current))
      throw certificateRefused('certificate_untrusted', 'no authority of its trust domain signed it');
    requireAuthority(next, check);
    notBeforeMs = Math.max(notBeforeMs, next.notBeforeMs);
    notAfterMs = Math.min(notAfterMs, next.notAfterMs);
    if (root !== undefined) return { notBeforeMs, notAfterMs };
    current = next;
  }
}

interface AuthorityCheck {
  readonly bundle: TrustBundle;
  readonly nowMs: number;
  /** How many authorities stand between this one and the leaf. */
  readonly authoritiesBelow: number;
}

/** The root that signed `certificate`; of several with the same key, one that stands every check. */
function findRoot(
  roots: readonly ParsedCertificate[],
  certificate: ParsedCertificate,
  check: AuthorityCheck,
): ParsedCertificate | undefined {
  const signers = roots.filter((root) => hasSigned(root, certificate));
  return signers.find((root) => isAuthority(root, check)) ?? signers[0];
}

function isAuthority(certificate: ParsedCertificate, check: AuthorityCheck): boolean {
  try {
    requireAuthority(certificate, check);
    return true;
  } catch {
    return false;
  }
}

function hasSigned(issuer: ParsedCertificate, certificate: ParsedCertificate): boolean {
  if (Buffer.compare(issuer.subject, certificate.issuer) !== 0) return false;
  try {
    return isSignatureValid({
      algorithm: certificate.signatureAlgorithm,
      signerSpki: issuer.publicKeySpki,
      data: certificate.toBeSigned,
      signature: certificate.signature,
    });
  } catch (cause) {
    throw certificateRefused('certificate_untrusted', 'its signature cannot be accepted', cause);
  }
}

function requireAuthority(certificate: ParsedCertificate, check: AuthorityCheck): void {
  const { basicConstraints, keyUsage } = certificate.extensions;
  requireValid(certificate, check.nowMs);
  if (basicConstraints?.isAuthority !== true)
    throw certificateRefused('authority_invalid', 'a certificate that is not an authority signed it');
  if (keyUsage?.bits.has(KEY_USAGE.keyCertSign) !== true)
    throw certificateRefused('authority_invalid', 'an authority without the usage keyCertSign signed it');
  if (check.authoritiesBelow > (basicConstraints.pathLength ?? MAX_CHAIN_LENGTH))
    throw certificateRefused('path_length_exceeded', 'an authority allows no such long path');
  requireAuthorityId(certificate, check.bundle);
}

/** An authority's SPIFFE ID, if it has one, is that of the trust domain itself (X509-SVID.md 3.2). */
function requireAuthorityId(certificate: ParsedCertificate, bundle: TrustBundle): void {
  for (const uri of certificate.extensions.subjectAlternativeName?.uris ?? []) {
    const id = parseAuthorityId(uri);
    if (trustDomainOf(id) !== bundle.trustDomain || pathOf(id) !== '')
      throw certificateRefused('authority_invalid', `the ID ${id} does not belong to its authority`);
  }
}

function parseAuthorityId(uri: string): ReturnType<typeof parseSpiffeId> {
  try {
    return parseSpiffeId(uri);
  } catch (cause) {
    throw certificateRefused('authority_invalid', 'an authority has a name that is no SPIFFE ID', cause);
  }
}

function requireValid(certificate: ParsedCertificate, nowMs: number): void {
  if (nowMs < certificate.notBeforeMs)
    throw certificateRefused(
      'certificate_not_yet_valid',
      `a certificate of its path begins at ${new Date(certificate.notBeforeMs).toISOString()}`,
    );
  // RFC 5280 counts the last second as valid; a time that is not a number must not pass.
  if (!(nowMs <= certificate.notAfterMs + 999))
    throw certificateRefused(
      'certificate_expired',
      `a certificate of its path ended at ${new Date(certificate.notAfterMs).toISOString()}`,
    );
  const [restriction] = certificate.extensions.notUnderstood;
  if (restriction !== undefined)
    throw certificateRefused('extension_not_understood', `extension ${restriction} is not understood`);
}

/** Bundles are replaced whole, never changed, so their certificates are taken apart once. */
const parsedAuthorities = new WeakMap<TrustBundle, readonly ParsedCertificate[]>();

function authoritiesOf(bundle: TrustBundle): readonly ParsedCertificate[] {
  const known = parsedAuthorities.get(bundle);
  if (known !== undefined) return known;
  const parsed = bundle.x509Authorities.map(readCertificate);
  parsedAuthorities.set(bundle, parsed);
  return parsed;
}
