import { verify } from 'node:crypto';
import { PicketError } from '../errors/errors.ts';
import type { AlgorithmIdentifier } from '../wire/x509-certificate.ts';
import { parsePublicKey, type KeyType } from './public-key.ts';

interface SignatureRow {
  readonly identifier: string;
  readonly keyTypes: readonly KeyType[];
  /** The hash's name for node:crypto; Ed25519 has its own. */
  readonly hash: string | undefined;
  /** In hexadecimal; undefined when there must be none. */
  readonly parameters: string | undefined;
}

const EC: readonly KeyType[] = ['ec-p256', 'ec-p384'];

/** The signatures that are accepted on certificates and requests. SHA-1, MD5 and DSA are not among them. */
const SIGNATURE_ROWS: readonly SignatureRow[] = [
  { identifier: '1.2.840.10045.4.3.2', keyTypes: EC, hash: 'sha256', parameters: undefined },
  { identifier: '1.2.840.10045.4.3.3', keyTypes: EC, hash: 'sha384', parameters: undefined },
  { identifier: '1.2.840.10045.4.3.4', keyTypes: EC, hash: 'sha512', parameters: undefined },
  { identifier: '1.2.840.113549.1.1.11', keyTypes: ['rsa'], hash: 'sha256', parameters: '0500' },
  { identifier: '1.2.840.113549.1.1.12', keyTypes: ['rsa'], hash: 'sha384', parameters: '0500' },
  { identifier: '1.2.840.113549.1.1.13', keyTypes: ['rsa'], hash: 'sha512', parameters: '0500' },
  { identifier: '1.3.101.112', keyTypes: ['ed25519'], hash: undefined, parameters: undefined },
];

/** ecdsa-with-SHA256, with which Picket signs. */
export const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';

/** ecdsa-with-SHA384, for a root key on P-384. */
export const ECDSA_WITH_SHA384 = '1.2.840.10045.4.3.3';

/**
 * Whether `signature` over `data` was made by the key `signerSpki`. Throws `invalid_argument`, reason
 * `signature_algorithm_refused`, for an algorithm that is not accepted or does not belong to the key, and
 * `public_key_refused` as `parsePublicKey` does.
 */
export function isSignatureValid(signed: {
  readonly algorithm: AlgorithmIdentifier;
  readonly signerSpki: Uint8Array;
  readonly data: Uint8Array;
  readonly signature: Uint8Array;
}): boolean {
  const { keyType, key } = parsePublicKey(signed.signerSpki);
  const parameters = signed.algorithm.parameters && Buffer.from(signed.algorithm.parameters).toString('hex');
  const row = SIGNATURE_ROWS.find((candidate) => candidate.identifier === signed.algorithm.identifier);
  if (row === undefined || row.parameters !== parameters || !row.keyTypes.includes(keyType))
    throw new PicketError(
      'invalid_argument',
      'signature_algorithm_refused',
      `Cannot accept signature algorithm ${signed.algorithm.identifier} by a key of type ${keyType}`,
    );
  try {
    return verify(row.hash ?? null, signed.data, key, signed.signature);
  } catch {
    // Some malformed signatures throw instead of being false.
    return false;
  }
}
