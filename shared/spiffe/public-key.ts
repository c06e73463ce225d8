import { createPublicKey, type KeyObject } from 'node:crypto';
import { PicketError } from '../errors/errors.ts';
import { DerReader } from '../wire/der-reader.ts';
import { DER_TAG } from '../wire/der-tag.ts';
import { readAlgorithmIdentifier } from '../wire/x509-certificate.ts';

/** The kinds of key that a certificate may hold. */
export type KeyType = 'ec-p256' | 'ec-p384' | 'rsa' | 'ed25519';

/** A public key that passed `parsePublicKey`. */
export interface PublicKey {
  readonly keyType: KeyType;
  readonly key: KeyObject;
}

/** The largest SubjectPublicKeyInfo that is read: an RSA key of 4096 bits has some 550 bytes. */
const MAX_SPKI_BYTES = 1024;

const MIN_RSA_BITS = 2048;

/** A larger key makes each verification slow for whoever receives it. */
const MAX_RSA_BITS = 4096;

interface KeyRow {
  readonly keyType: KeyType;
  readonly identifier: string;
  /** The algorithm's parameters in hexadecimal, or undefined when there must be none. */
  readonly parameters: string | undefined;
}

const KEY_ROWS: readonly KeyRow[] = [
  { keyType: 'ec-p256', identifier: '1.2.840.10045.2.1', parameters: '06082a8648ce3d030107' },
  { keyType: 'ec-p384', identifier: '1.2.840.10045.2.1', parameters: '06052b81040022' },
  { keyType: 'rsa', identifier: '1.2.840.113549.1.1.1', parameters: '0500' },
  { keyType: 'ed25519', identifier: '1.3.101.112', parameters: undefined },
];

/**
 * Reads a SubjectPublicKeyInfo (RFC 5280 4.1.2.7) of an EC P-256 or P-384, RSA (2048 to 4096 bits) or Ed25519 key. Throws
 * `invalid_argument`, reason `public_key_refused`, for every other key and for bytes that are not exactly one key.
 */
export function parsePublicKey(spki: Uint8Array): PublicKey {
  const keyType = readKeyType(spki);
  const key = importKey(spki);
  if (keyType === 'rsa') requireRsaSize(key);
  return { keyType, key };
}

function readKeyType(spki: Uint8Array): KeyType {
  if (spki.length > MAX_SPKI_BYTES) throw refused(`it is longer than ${MAX_SPKI_BYTES} bytes`);
  try {
    const reader = new DerReader(spki);
    const inside = reader.sequence();
    reader.requireEnd();
    const algorithm = readAlgorithmIdentifier(inside);
    inside.element(DER_TAG.bitString);
    inside.requireEnd();
    const parameters = algorithm.parameters && Buffer.from(algorithm.parameters).toString('hex');
    const row = KEY_ROWS.find(
      (candidate) => candidate.identifier === algorithm.identifier && candidate.parameters === parameters,
    );
    if (row !== undefined) return row.keyType;
  } catch (cause) {
    throw refused('it is not a SubjectPublicKeyInfo', cause);
  }
  throw refused('only EC P-256 and P-384, RSA and Ed25519 are accepted');
}

function importKey(spki: Uint8Array): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  } catch (cause) {
    throw refused('it is not a valid key of its kind', cause);
  }
}

function requireRsaSize(key: KeyObject): void {
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  if (modulusLength < MIN_RSA_BITS || modulusLength > MAX_RSA_BITS)
    throw refused(`an RSA key must have ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits, not ${modulusLength}`);
  if (publicExponent < 65_537n) throw refused('its public exponent is below 65537');
}

function refused(why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', 'public_key_refused', `Cannot accept the public key: ${why}`, {
    cause,
  });
}
