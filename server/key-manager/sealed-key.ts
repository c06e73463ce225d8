import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';

/**
 * A sealed key file:
 *
 *   | bytes | what                                                       |
 *   |-------|------------------------------------------------------------|
 *   | 4     | `PKK1`                                                     |
 *   | 12    | nonce, random for each write                               |
 *   | n     | PKCS#8 in AES-256-GCM, the name of the key bound to it     |
 *   | 16    | tag                                                        |
 */
const MAGIC = Buffer.from('PKK1');
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const OVERHEAD_BYTES = MAGIC.length + NONCE_BYTES + TAG_BYTES;
const SEAL_KEY_BYTES = 32;

/** The largest sealed file in bytes: a key on P-256 takes some 170. */
export const MAX_SEALED_KEY_BYTES = 16_384;

/** The key that seals, from the random bytes of the secret file (HKDF-SHA-256). */
export function deriveSealKey(secret: Uint8Array): Uint8Array {
  return new Uint8Array(
    hkdfSync('sha256', secret, new Uint8Array(0), 'picket-key-manager-1', SEAL_KEY_BYTES),
  );
}

/** Seals the PKCS#8 of the key `name`. */
export function sealKey(sealKeyBytes: Uint8Array, name: string, pkcs8: Uint8Array): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', sealKeyBytes, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(boundName(name));
  return Buffer.concat([MAGIC, nonce, cipher.update(pkcs8), cipher.final(), cipher.getAuthTag()]);
}

/**
 * The PKCS#8 in a sealed file. Throws `failed_precondition`, reason `key_unreadable`, when a single bit of it was altered, or when it belongs to another secret or
 * another name.
 */
export function unsealKey(sealKeyBytes: Uint8Array, name: string, file: Uint8Array): Uint8Array {
  if (file.length < OVERHEAD_BYTES || !MAGIC.equals(file.subarray(0, MAGIC.length)))
    throw unreadable(name, 'its file is damaged or no sealed key');
  const nonceEnd = MAGIC.length + NONCE_BYTES;
  const textEnd = file.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', sealKeyBytes, file.subarray(MAGIC.length, nonceEnd), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(boundName(name));
  decipher.setAuthTag(file.subarray(textEnd));
  try {
    const text = decipher.update(file.subarray(nonceEnd, textEnd));
    return new Uint8Array(Buffer.concat([text, decipher.final()]));
  } catch (cause) {
    throw unreadable(name, 'its file was altered, or sealed with another secret', cause);
  }
}

/** Authenticated with the key, so that one sealed file cannot be put in the place of another. */
function boundName(name: string): Uint8Array {
  return Buffer.from(`picket-key-1\0${name}`);
}

function unreadable(name: string, why: string, cause?: unknown): PicketError {
  return new PicketError('failed_precondition', 'key_unreadable', `Cannot open the key "${name}": ${why}`, {
    cause,
  });
}
