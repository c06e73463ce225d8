import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

/** Why a sealed box does not open. */
export type SealFailure = 'not_a_sealed_box' | 'altered_or_other_key';

/** Thrown by {@link SealedBox.open}; who asked says in its own words what could not be opened. */
export class SealError extends Error {
  readonly failure: SealFailure;

  constructor(failure: SealFailure, options?: ErrorOptions) {
    super(failure, options);
    this.name = 'SealError';
    this.failure = failure;
  }
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const MAGIC_BYTES = 4;

/** How much longer a sealed box is than what is in it, in bytes. */
export const SEAL_OVERHEAD_BYTES = MAGIC_BYTES + NONCE_BYTES + TAG_BYTES;

/**
 * A value under AES-256-GCM (NIST SP 800-38D) as it stands on disk:
 *
 *   | bytes | what                                                  |
 *   |-------|-------------------------------------------------------|
 *   | 4     | magic of the kind of file                             |
 *   | 12    | nonce, random for each write                          |
 *   | n     | ciphertext, the name of the value bound to it         |
 *   | 16    | tag                                                   |
 *
 * The name is authenticated with the value, so that one sealed file cannot be put in the place of another.
 */
export class SealedBox {
  readonly #magic: Buffer;
  readonly #context: string;

  /** `magic`: four ASCII characters. `context` keeps apart kinds of boxes that happen to share a key. */
  constructor(kind: { readonly magic: string; readonly context: string }) {
    this.#magic = Buffer.from(kind.magic, 'ascii');
    this.#context = kind.context;
    if (this.#magic.length !== MAGIC_BYTES) throw new RangeError(`A magic has ${MAGIC_BYTES} bytes`);
  }

  /** Seals `value` under the 32-byte `key`. */
  seal(key: Uint8Array, name: string, value: Uint8Array): Uint8Array {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(this.#boundName(name));
    return Buffer.concat([this.#magic, nonce, cipher.update(value), cipher.final(), cipher.getAuthTag()]);
  }

  /** What was sealed. Throws {@link SealError} when a single bit was altered, or for another key, name or kind. */
  open(key: Uint8Array, name: string, box: Uint8Array): Uint8Array {
    if (box.length < SEAL_OVERHEAD_BYTES || !this.#magic.equals(box.subarray(0, MAGIC_BYTES)))
      throw new SealError('not_a_sealed_box');
    const nonceEnd = MAGIC_BYTES + NONCE_BYTES;
    const textEnd = box.length - TAG_BYTES;
    const nonce = box.subarray(MAGIC_BYTES, nonceEnd);
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(this.#boundName(name));
    decipher.setAuthTag(box.subarray(textEnd));
    try {
      const text = decipher.update(box.subarray(nonceEnd, textEnd));
      return new Uint8Array(Buffer.concat([text, decipher.final()]));
    } catch (cause) {
      throw new SealError('altered_or_other_key', { cause });
    }
  }

  #boundName(name: string): Uint8Array {
    return Buffer.from(`${this.#context}\0${name}`);
  }
}
