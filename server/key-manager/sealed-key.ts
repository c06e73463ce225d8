import { hkdfSync } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import { SealedBox, SealError } from '../../shared/runtime/sealed-box.ts';

const SEAL_KEY_BYTES = 32;
const BOX = new SealedBox({ magic: 'PKK1', context: 'picket-key-1' });

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
  return BOX.seal(sealKeyBytes, name, pkcs8);
}

/**
 * The PKCS#8 in a sealed file. Throws `failed_precondition`, reason `key_unreadable`, when a single bit of it was altered, or when it belongs to another secret or
 * another name.
 */
export function unsealKey(sealKeyBytes: Uint8Array, name: string, file: Uint8Array): Uint8Array {
  try {
    return BOX.open(sealKeyBytes, name, file);
  } catch (cause) {
    const isForeign = cause instanceof SealError && cause.failure === 'not_a_sealed_box';
    const why = isForeign
      ? 'its file is damaged or no sealed key'
      : 'its file was altered, or sealed with another secret';
    throw new PicketError('failed_precondition', 'key_unreadable', `Cannot open the key "${name}": ${why}`, {
      cause,
    });
  }
}
