/**
 * Bun's judgements of a certificate after a handshake that succeeded. Every other error is a handshake that failed.
 */
const JUDGEMENTS: ReadonlySet<string> = new Set([
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'PATH_LENGTH_EXCEEDED',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** Why a handshake of Bun's failed, as an error's symbol; undefined where it succeeded, whatever Bun thinks of the certificate. */
export function handshakeFailure(isFinished: boolean, error: Error | null): string | undefined {
  if (error !== null) return JUDGEMENTS.has(codeOf(error)) ? undefined : codeOf(error);
  return isFinished ? undefined : 'it was not finished';
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
