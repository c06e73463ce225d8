import { createHash } from 'node:crypto';

/** What a quote is bound to, so that it proves one answer of one host to one server and nothing else. */
export interface TpmBinding {
  /** The nonce of the challenge. */
  readonly nonce: Uint8Array;
  /** SubjectPublicKeyInfo, DER, of the request for a certificate. */
  readonly csrPublicKeySpki: Uint8Array;
  /** SHA-256 of the DER of the certificate that the server showed on the connection. */
  readonly serverCertificateSha256: Uint8Array;
}

const SHA256_BYTES = 32;

/**
 * The quote's qualifyingData: SHA-256(nonce || SPKI || certificate hash). Nonce and certificate hash are 32 bytes each, or it is a `RangeError`:
 * with their lengths fixed, the concatenation reads in one way only.
 */
export function computeQualifyingData(binding: TpmBinding): Uint8Array {
  requireDigestSize('nonce', binding.nonce);
  requireDigestSize('certificate hash', binding.serverCertificateSha256);
  return createHash('sha256')
    .update(binding.nonce)
    .update(binding.csrPublicKeySpki)
    .update(binding.serverCertificateSha256)
    .digest();
}

function requireDigestSize(what: string, bytes: Uint8Array): void {
  if (bytes.length !== SHA256_BYTES)
    throw new RangeError(`The ${what} is ${bytes.length} bytes, not ${SHA256_BYTES}`);
}
