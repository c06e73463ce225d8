import { PicketError } from '../errors/errors.ts';

/** Why a certificate is not trusted: the reasons of `verifyX509Svid`, `readLeafIdentity` and `verifyPolicySignature`. */
export type CertificateRefusal =
  | 'certificate_malformed'
  | 'certificate_not_yet_valid'
  | 'certificate_expired'
  | 'certificate_untrusted'
  | 'chain_length_refused'
  | 'path_length_exceeded'
  | 'authority_invalid'
  | 'leaf_profile_invalid'
  | 'extension_not_understood'
  | 'spiffe_id_invalid'
  | 'trust_domain_unknown';

/** The error of a certificate that is not trusted. */
export function certificateRefused(reason: CertificateRefusal, why: string, cause?: unknown): PicketError {
  return new PicketError('unauthenticated', reason, `Cannot trust the certificate: ${why}`, { cause });
}
