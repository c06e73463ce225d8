import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import {
  curveFacts,
  hashFacts,
  invalidStructure,
  requireTpmCurve,
  requireTpmHash,
  TPM_ALG,
  type TpmCurve,
  type TpmHash,
  unsupportedStructure,
} from './tpm2-algorithms.ts';
import { buildSized, padStart, readSized } from './tpm2-buffer.ts';

/** Bits of TPMA_OBJECT (TPM 2.0 Part 2, 8.3). */
export const TPM_OBJECT = {
  fixedTpm: 1 << 1,
  fixedParent: 1 << 4,
  sensitiveDataOrigin: 1 << 5,
  userWithAuth: 1 << 6,
  adminWithPolicy: 1 << 7,
  noDictionaryAttack: 1 << 10,
  restricted: 1 << 16,
  decrypt: 1 << 17,
  sign: 1 << 18,
} as const;

/** The key of a public area. In a template `modulus`, `x` and `y` are what the caller chooses for `unique`. */
export type TpmKey =
  | {
      readonly kind: 'rsa';
      readonly keyBits: 2048 | 3072;
      readonly exponent: number;
      readonly modulus: Uint8Array;
    }
  | { readonly kind: 'ecc'; readonly curve: TpmCurve; readonly x: Uint8Array; readonly y: Uint8Array };

/** TPMT_PUBLIC (TPM 2.0 Part 2, 12.2.4) of an RSA or ECC key, as far as Picket accepts one. */
export interface TpmPublic {
  readonly nameAlgorithm: TpmHash;
  /** TPMA_OBJECT, see `TPM_OBJECT`. */
  readonly attributes: number;
  readonly authPolicy: Uint8Array;
  /** AES-CFB with which a storage key protects what is under it; null for a signing key. */
  readonly symmetricBits: 128 | 256 | null;
  /** RSASSA for RSA keys, ECDSA for ECC keys; null for a storage key. */
  readonly signingHash: TpmHash | null;
  readonly key: TpmKey;
}

const DEFAULT_EXPONENT = 65_537;
const MAX_POLICY_BYTES = 64;
const MAX_MODULUS_BYTES = 384;

/**
 * Reads a whole TPMT_PUBLIC; `buildTpmPublic` is its inverse. Throws `invalid_argument`, reasons `tpm_structure_invalid`, `tpm_structure_unsupported`,
 * `truncated` or `trailing_bytes`.
 *
 *     2  type                RSA 0x0001, ECC 0x0023
 *     2  nameAlg
 *     4  objectAttributes
 *   2+n  authPolicy
 *     …  symmetric           0x0010, or AES, key bits, CFB
 *     …  scheme              0x0010, or RSASSA / ECDSA and hash
 *        RSA: 2 key bits, 4 exponent, 2+n modulus
 *        ECC: 2 curve, 2 kdf (0x0010), 2+n x, 2+n y
 */
export function parseTpmPublic(bytes: Uint8Array): TpmPublic {
  const reader = new ByteReader(bytes);
  const type = reader.u16();
  if (type !== TPM_ALG.rsa && type !== TPM_ALG.ecc) throw unsupportedStructure(`key type ${type}`);
  const nameAlgorithm = requireTpmHash(reader.u16());
  const attributes = reader.u32();
  const authPolicy = readSized(reader, MAX_POLICY_BYTES);
  const symmetricBits = readSymmetric(reader);
  const signingHash = readScheme(reader, type === TPM_ALG.rsa ? TPM_ALG.rsassa : TPM_ALG.ecdsa);
  const key = type === TPM_ALG.rsa ? readRsaKey(reader) : readEccKey(reader);
  reader.requireEnd();
  return { nameAlgorithm, attributes, authPolicy, symmetricBits, signingHash, key };
}

/** The TPMT_PUBLIC of a key or, with `unique` values of the caller's choice, a template for TPM2_CreatePrimary. */
export function buildTpmPublic(area: TpmPublic): Uint8Array {
  const { key } = area;
  const writer = new ByteWriter()
    .u16(TPM_ALG[key.kind])
    .u16(hashFacts(area.nameAlgorithm).id)
    .u32(area.attributes)
    .bytes(buildSized(area.authPolicy));
  if (area.symmetricBits === null) writer.u16(TPM_ALG.null);
  else writer.u16(TPM_ALG.aes).u16(area.symmetricBits).u16(TPM_ALG.cfb);
  if (area.signingHash === null) writer.u16(TPM_ALG.null);
  else writer.u16(key.kind === 'rsa' ? TPM_ALG.rsassa : TPM_ALG.ecdsa).u16(hashFacts(area.signingHash).id);
  if (key.kind === 'rsa') writer.u16(key.keyBits).u32(key.exponent).bytes(buildSized(key.modulus));
  else
    writer.u16(curveFacts(key.curve).id).u16(TPM_ALG.null).bytes(buildSized(key.x)).bytes(buildSized(key.y));
  return writer.toBytes();
}

/** The object's Name (Part 1, 16): nameAlg and the digest of the public area exactly as the TPM marshalled it. */
export function computeTpmName(publicArea: Uint8Array): Uint8Array {
  const { nameAlgorithm } = parseTpmPublic(publicArea);
  const digest = createHash(nameAlgorithm).update(publicArea).digest();
  return new ByteWriter().u16(hashFacts(nameAlgorithm).id).bytes(digest).toBytes();
}

/** The public key itself. Throws `tpm_structure_invalid` for a point that is not on its curve or a modulus of the wrong size. */
export function publicKeyOf(area: TpmPublic): KeyObject {
  try {
    return createPublicKey({ key: jwkOf(area.key), format: 'jwk' });
  } catch (error) {
    throw invalidStructure('public key: it is not a key', error);
  }
}

/** SubjectPublicKeyInfo of the key, DER: what the hash of an endorsement key is taken over. */
export function spkiOf(area: TpmPublic): Uint8Array {
  return publicKeyOf(area).export({ type: 'spki', format: 'der' });
}

/** Whether all of `required` is set and none of `forbidden`; both are sums of `TPM_OBJECT` bits. */
export function hasAttributes(
  area: TpmPublic,
  { required, forbidden }: { readonly required: number; readonly forbidden: number },
): boolean {
  return (area.attributes & required) === required && (area.attributes & forbidden) === 0;
}

function jwkOf(key: TpmKey): { readonly [field: string]: string } {
  if (key.kind === 'rsa') return { kty: 'RSA', n: base64url(key.modulus), e: 'AQAB' };
  const { jwkName, bytes } = curveFacts(key.curve);
  return {
    kty: 'EC',
    crv: jwkName,
    x: base64url(padStart(key.x, bytes)),
    y: base64url(padStart(key.y, bytes)),
  };
}

function readSymmetric(reader: ByteReader): 128 | 256 | null {
  const algorithm = reader.u16();
  if (algorithm === TPM_ALG.null) return null;
  if (algorithm !== TPM_ALG.aes) throw unsupportedStructure(`symmetric algorithm ${algorithm}`);
  const bits = reader.u16();
  const mode = reader.u16();
  if ((bits !== 128 && bits !== 256) || mode !== TPM_ALG.cfb)
    throw unsupportedStructure(`AES mode or key size`);
  return bits;
}

function readScheme(reader: ByteReader, expected: number): TpmHash | null {
  const scheme = reader.u16();
  if (scheme === TPM_ALG.null) return null;
  if (scheme !== expected) throw unsupportedStructure(`signing scheme ${scheme}`);
  return requireTpmHash(reader.u16());
}

function readRsaKey(reader: ByteReader): TpmKey {
  const keyBits = reader.u16();
  if (keyBits !== 2048 && keyBits !== 3072) throw unsupportedStructure(`RSA key of ${keyBits} bits`);
  const exponent = reader.u32();
  // 0 stands for the default. Any other exponent is refused, so that one key has one SubjectPublicKeyInfo.
  if (exponent !== 0 && exponent !== DEFAULT_EXPONENT) throw unsupportedStructure(`RSA exponent ${exponent}`);
  const modulus = readSized(reader, MAX_MODULUS_BYTES);
  if (modulus.length !== keyBits / 8 || (modulus[0] ?? 0) < 0x80)
    throw invalidStructure('RSA modulus: wrong size');
  return { kind: 'rsa', keyBits, exponent, modulus };
}

function readEccKey(reader: ByteReader): TpmKey {
  const curve = requireTpmCurve(reader.u16());
  const kdf = reader.u16();
  if (kdf !== TPM_ALG.null) throw unsupportedStructure(`key derivation scheme ${kdf}`);
  const { bytes } = curveFacts(curve);
  return { kind: 'ecc', curve, x: readSized(reader, bytes), y: readSized(reader, bytes) };
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');
}
