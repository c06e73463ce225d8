import { verify } from 'node:crypto';
import { PicketError } from '../errors/errors.ts';
import type { SignedPolicy } from '../protocol/policy-statement.ts';
import { KEY_USAGE, PURPOSE } from '../wire/x509-extensions.ts';
import type { ParsedCertificate } from '../wire/x509-certificate.ts';
import { readCertificate, verifyCertificatePath } from './certificate-path.ts';
import { certificateRefused } from './certificate-refusal.ts';
import { parsePublicKey } from './public-key.ts';
import { policySignerId } from './reserved-path.ts';
import type { TrustBundle } from './trust-bundle.ts';

/** id-kp-codeSigning (RFC 5280 4.2.1.12): what a policy is to a host. */
export const CODE_SIGNING = '1.3.6.1.5.5.7.3.3';

/**
 * Verifies that a policy was signed by the policy key of the bundle's trust domain. Its certificate is made by a root of the bundle
 * itself, so that the online authority alone cannot make one; it names the policy signer, and may sign code but do no TLS: no
 * SVID signs a policy, and the policy certificate is nobody's SVID. It is as good as the bundle: whoever steals the online key and also answers agents in the
 * server's place can tell them a bundle with a root of his own (SECURITY.md). Throws `unauthenticated`: reasons of `CertificateRefusal`, or
 * `policy_signature_invalid`.
 */
export function verifyPolicySignature(signed: SignedPolicy, bundle: TrustBundle, nowMs: number): void {
  const [certificate, ...others] = signed.chain.map((text) => readCertificate(Buffer.from(text, 'base64')));
  if (certificate === undefined || others.length > 0)
    throw certificateRefused('chain_length_refused', 'the root itself must have made the policy certificate');
  verifyPolicyCertificate(certificate, bundle, nowMs);
  const { key } = parsePublicKey(certificate.publicKeySpki);
  if (!isSigned(signed, key))
    throw new PicketError(
      'unauthenticated',
      'policy_signature_invalid',
      'The signature of the policy is not valid',
    );
}

/** Verifies the certificate of a policy key as `verifyPolicySignature` does. Throws `unauthenticated`, reasons of `CertificateRefusal`. */
export function verifyPolicyCertificate(
  certificate: ParsedCertificate,
  bundle: TrustBundle,
  nowMs: number,
): void {
  verifyCertificatePath([certificate], { bundle, nowMs });
  const { basicConstraints, keyUsage, extendedKeyUsage, subjectAlternativeName } = certificate.extensions;
  if (basicConstraints?.isAuthority === true) throw profileInvalid('an authority signs no policies');
  if (keyUsage?.bits.has(KEY_USAGE.digitalSignature) !== true) throw profileInvalid('its key may not sign');
  const purposes = extendedKeyUsage ?? [];
  if (!purposes.includes(CODE_SIGNING)) throw profileInvalid('it is not made for signing policies');
  if (purposes.includes(PURPOSE.serverAuth) || purposes.includes(PURPOSE.clientAuth))
    throw profileInvalid('it is made for TLS');
  const [uri, ...others] = subjectAlternativeName?.uris ?? [];
  if (uri !== policySignerId(bundle.trustDomain) || others.length > 0)
    throw profileInvalid('it does not name the policy signer of its trust domain');
}

function isSigned(signed: SignedPolicy, key: ReturnType<typeof parsePublicKey>['key']): boolean {
  try {
    return verify('sha256', Buffer.from(signed.statement), key, Buffer.from(signed.signature, 'base64'));
  } catch {
    return false;
  }
}

function profileInvalid(why: string): PicketError {
  return certificateRefused('leaf_profile_invalid', why);
}
