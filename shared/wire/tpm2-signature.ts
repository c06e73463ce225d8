import { verify } from 'node:crypto';
import { ByteReader } from './byte-reader.ts';
import {
  curveFacts,
  requireTpmHash,
  TPM_ALG,
  type TpmHash,
  unsupportedStructure,
} from './tpm2-algorithms.ts';
import { padStart, readSized } from './tpm2-buffer.ts';
import { publicKeyOf, type TpmPublic } from './tpm2-public.ts';

/** TPMT_SIGNATURE (Part 2, 11.3.4) by RSASSA or ECDSA. */
export type TpmSignature =
  | { readonly kind: 'rsa'; readonly hash: TpmHash; readonly value: Uint8Array }
  | { readonly kind: 'ecc'; readonly hash: TpmHash; readonly r: Uint8Array; readonly s: Uint8Array };

const MAX_SIGNATURE_BYTES = 512;
const MAX_SCALAR_BYTES = 66;

/**
 * Reads a whole TPMT_SIGNATURE.
 *
 *     2  sigAlg      RSASSA 0x0014, ECDSA 0x0018
 *     2  hash
 *        RSASSA: 2+n signature; ECDSA: 2+n r, 2+n s
 */
export function parseTpmSignature(bytes: Uint8Array): TpmSignature {
  const reader = new ByteReader(bytes);
  const algorithm = reader.u16();
  if (algorithm !== TPM_ALG.rsassa && algorithm !== TPM_ALG.ecdsa)
    throw unsupportedStructure(`signature algorithm ${algorithm}`);
  const hash = requireTpmHash(reader.u16());
  const signature: TpmSignature =
    algorithm === TPM_ALG.rsassa
      ? { kind: 'rsa', hash, value: readSized(reader, MAX_SIGNATURE_BYTES) }
      : { kind: 'ecc', hash, r: readSized(reader, MAX_SCALAR_BYTES), s: readSized(reader, MAX_SCALAR_BYTES) };
  reader.requireEnd();
  return signature;
}

/** Whether `signature` over `message` was made by the key, by the key's own scheme and hash. */
export function isTpmSignatureValid(
  area: TpmPublic,
  { message, signature }: { readonly message: Uint8Array; readonly signature: TpmSignature },
): boolean {
  if (area.signingHash !== signature.hash) return false;
  const key = publicKeyOf(area);
  if (area.key.kind === 'rsa')
    return signature.kind === 'rsa' && verify(signature.hash, message, key, signature.value);
  if (signature.kind !== 'ecc') return false;
  const { bytes } = curveFacts(area.key.curve);
  if (signature.r.length > bytes || signature.s.length > bytes) return false;
  const value = Buffer.concat([padStart(signature.r, bytes), padStart(signature.s, bytes)]);
  return verify(signature.hash, message, { key, dsaEncoding: 'ieee-p1363' }, value);
}
