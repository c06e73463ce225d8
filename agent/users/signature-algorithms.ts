import { constants, verify, type KeyObject } from 'node:crypto';

/** What is known of a signature algorithm (RFC 7518 3.1, RFC 8037). */
interface Algorithm {
  readonly hash: 'sha256' | 'sha384' | 'sha512' | null;
  readonly keyType: 'rsa' | 'ec' | 'ed25519';
  /** Name of the curve as node:crypto tells it. */
  readonly curve?: string;
  readonly isPss?: true;
}

/** Algorithms of public keys alone: a token that a secret signs (HS256) would be signed by whoever has the key set, and `none` by everybody. */
export const SIGNATURE_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;

export type SignatureAlgorithm = (typeof SIGNATURE_ALGORITHMS)[number];

const ALGORITHMS: ReadonlyMap<string, Algorithm> = new Map<SignatureAlgorithm, Algorithm>([
  ['RS256', { hash: 'sha256', keyType: 'rsa' }],
  ['RS384', { hash: 'sha384', keyType: 'rsa' }],
  ['RS512', { hash: 'sha512', keyType: 'rsa' }],
  ['PS256', { hash: 'sha256', keyType: 'rsa', isPss: true }],
  ['PS384', { hash: 'sha384', keyType: 'rsa', isPss: true }],
  ['PS512', { hash: 'sha512', keyType: 'rsa', isPss: true }],
  ['ES256', { hash: 'sha256', keyType: 'ec', curve: 'prime256v1' }],
  ['ES384', { hash: 'sha384', keyType: 'ec', curve: 'secp384r1' }],
  ['ES512', { hash: 'sha512', keyType: 'ec', curve: 'secp521r1' }],
  ['EdDSA', { hash: null, keyType: 'ed25519' }],
]);

const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;

/** Whether a key is one of `algorithm`, and strong enough. */
export function isKeyFor(algorithm: string, key: KeyObject): boolean {
  const known = ALGORITHMS.get(algorithm);
  if (known === undefined || key.asymmetricKeyType !== known.keyType) return false;
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  if (known.keyType === 'rsa') return modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS;
  return known.curve === undefined || namedCurve === known.curve;
}

/** Whether `signature` is the key's over `input`. Never throws; false for a key of another kind. */
export function isSignatureValid(
  algorithm: string,
  key: KeyObject,
  signed: { readonly input: Uint8Array; readonly signature: Uint8Array },
): boolean {
  const known = ALGORITHMS.get(algorithm);
  if (known === undefined || !isKeyFor(algorithm, key)) return false;
  try {
    return verify(known.hash, signed.input, optionsOf(known, key), signed.signature);
  } catch {
    // A signature that the library cannot read.
    return false;
  }
}

function optionsOf({ keyType, isPss }: Algorithm, key: KeyObject): Parameters<typeof verify>[2] {
  if (keyType === 'ec') return { key, dsaEncoding: 'ieee-p1363' };
  if (isPss === true)
    return {
      key,
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
    };
  return key;
}
