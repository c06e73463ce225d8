import { PicketError } from '../../shared/errors/errors.ts';
import { MAX_CSR_BYTES } from '../../shared/protocol/attestation.ts';
import { parsePublicKey } from '../../shared/spiffe/public-key.ts';
import { isSignatureValid } from '../../shared/spiffe/signature-algorithm.ts';
import { DerReader } from '../../shared/wire/der-reader.ts';
import { constructedContextTag, DER_TAG } from '../../shared/wire/der-tag.ts';
import { readAlgorithmIdentifier } from '../../shared/wire/x509-certificate.ts';

/** What a certificate signing request conveys: a public key whose private half its sender holds. */
export interface CsrContent {
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeySpki: Uint8Array;
}

/**
 * Reads a PKCS#10 request (RFC 2986) and verifies its own signature, which proves possession of the key. Subject and attributes are ignored: what a
 * certificate says comes from registration. Throws `invalid_argument`: `csr_invalid`, `csr_signature_invalid`, or the reasons of `parsePublicKey`
 * and `isSignatureValid` for a key or an algorithm that is not accepted.
 */
export function readCsr(der: Uint8Array): CsrContent {
  const { info, publicKeySpki, algorithm, signature } = parseCsr(der);
  parsePublicKey(publicKeySpki);
  if (!isSignatureValid({ algorithm, signerSpki: publicKeySpki, data: info, signature }))
    throw new PicketError(
      'invalid_argument',
      'csr_signature_invalid',
      'The certificate signing request was not signed with its own key',
    );
  return { publicKeySpki: publicKeySpki.slice() };
}

function parseCsr(der: Uint8Array) {
  if (der.length > MAX_CSR_BYTES) throw invalid(`it is longer than ${MAX_CSR_BYTES} bytes`);
  try {
    const reader = new DerReader(der);
    const request = reader.sequence();
    reader.requireEnd();
    const info = request.element(DER_TAG.sequence).encoded;
    const algorithm = readAlgorithmIdentifier(request);
    const { bytes: signature, unusedBits } = request.bitString();
    request.requireEnd();
    if (unusedBits !== 0) throw invalid('its signature is not a whole number of bytes');
    return { info, algorithm, signature, publicKeySpki: readPublicKey(info) };
  } catch (cause) {
    throw cause instanceof PicketError && cause.reason === 'csr_invalid'
      ? cause
      : invalid('it is malformed', cause);
  }
}

/** CertificationRequestInfo: version 0, subject, key, attributes. */
function readPublicKey(info: Uint8Array): Uint8Array {
  const fields = new DerReader(info).sequence();
  if (fields.integer() !== 0n) throw invalid('its version is unknown');
  fields.element(DER_TAG.sequence);
  const publicKeySpki = fields.element(DER_TAG.sequence).encoded;
  if (fields.nextTag() !== undefined) fields.constructed(constructedContextTag(0));
  fields.requireEnd();
  return publicKeySpki;
}

function invalid(why: string, cause?: unknown): PicketError {
  return new PicketError(
    'invalid_argument',
    'csr_invalid',
    `Cannot read the certificate signing request: ${why}`,
    { cause },
  );
}
