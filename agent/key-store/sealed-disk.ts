import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import { readSealKey, requirePrivate, syncDirectory } from './seal-key.ts';
import type { SealedStore } from './sealed-store.ts';

/**
 * A sealed file:
 *
 *   | bytes | what                                                        |
 *   |-------|-------------------------------------------------------------|
 *   | 4     | `PKS1`                                                      |
 *   | 12    | nonce, random for each write                                |
 *   | n     | ciphertext (AES-256-GCM, the name of the value bound to it)  |
 *   | 16    | tag                                                         |
 */
const MAGIC = Buffer.from('PKS1');
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const OVERHEAD_BYTES = MAGIC.length + NONCE_BYTES + TAG_BYTES;

/** The largest value in bytes: a directory of some 100,000 records stays well below. */
export const MAX_SEALED_BYTES = 256 * 1024 * 1024;

const SUFFIX = '.sealed';
const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;

export interface SealedDiskOptions {
  /** Made with mode 0700 when absent. */
  readonly directory: string;
  /** Where the key stands when systemd gives none; `<directory>/seal.key` by default. */
  readonly keyFile?: string;
  readonly credentialsDirectory?: string | undefined;
}

/**
 * Opens the sealed store of a directory, making it and its key at the first start. Throws `failed_precondition` when directory or key are
 * open to others (`seal_permissions`), or the key is wrong (`seal_key_invalid`) or gone (`seal_key_missing`).
 */
export async function openSealedDisk(options: SealedDiskOptions): Promise<SealedStore> {
  const { directory } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  requirePrivate(directory, await stat(directory));
  const names = await readdir(directory);
  const key = await readSealKey(
    {
      credentialsDirectory: options.credentialsDirectory,
      keyFile: options.keyFile ?? join(directory, 'seal.key'),
    },
    !names.some((name) => name.endsWith(SUFFIX)),
  );
  for (const name of names) if (name.includes(`${SUFFIX}.`)) await unlink(join(directory, name));
  return new SealedDisk(directory, key);
}

class SealedDisk implements SealedStore {
  readonly #directory: string;
  readonly #key: Uint8Array;
  #drafts = 0;

  constructor(directory: string, key: Uint8Array) {
    this.#directory = directory;
    this.#key = key;
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    const path = this.#path(name);
    let file: Uint8Array;
    try {
      const status = await stat(path);
      requirePrivate(path, status);
      if (status.size > MAX_SEALED_BYTES + OVERHEAD_BYTES) throw broken(name, 'it is too large');
      file = await readFile(path);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    }
    return this.#unseal(name, file);
  }

  async write(name: string, value: Uint8Array): Promise<void> {
    if (value.length > MAX_SEALED_BYTES)
      throw new RangeError(`Cannot seal ${name}: ${value.length} bytes are more than ${MAX_SEALED_BYTES}`);
    const path = this.#path(name);
    const draft = `${path}.${process.pid}-${this.#drafts++}`;
    try {
      const handle = await open(draft, 'wx', 0o600);
      try {
        await handle.writeFile(this.#seal(name, value));
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(draft, path);
    } catch (error) {
      await unlink(draft).catch(() => undefined);
      throw error;
    }
    await syncDirectory(this.#directory);
  }

  async delete(name: string): Promise<void> {
    try {
      await unlink(this.#path(name));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
      throw error;
    }
    await syncDirectory(this.#directory);
  }

  #path(name: string): string {
    if (!NAME.test(name)) throw new TypeError(`Cannot name a sealed value "${name}"`);
    return join(this.#directory, name + SUFFIX);
  }

  #seal(name: string, value: Uint8Array): Uint8Array {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(boundName(name));
    const text = cipher.update(value);
    return Buffer.concat([MAGIC, nonce, text, cipher.final(), cipher.getAuthTag()]);
  }

  #unseal(name: string, file: Uint8Array): Uint8Array {
    if (file.length < OVERHEAD_BYTES || !MAGIC.equals(file.subarray(0, MAGIC.length)))
      throw broken(name, 'it is no sealed file');
    const nonceEnd = MAGIC.length + NONCE_BYTES;
    const textEnd = file.length - TAG_BYTES;
    const decipher = createDecipheriv('aes-256-gcm', this.#key, file.subarray(MAGIC.length, nonceEnd), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(boundName(name));
    decipher.setAuthTag(file.subarray(textEnd));
    try {
      const text = decipher.update(file.subarray(nonceEnd, textEnd));
      return new Uint8Array(Buffer.concat([text, decipher.final()]));
    } catch (cause) {
      throw broken(name, 'it was altered or belongs to another key', cause);
    }
  }
}

/** The name is authenticated with the value, so that one sealed file cannot be put in the place of another. */
function boundName(name: string): Uint8Array {
  return Buffer.from(`picket-sealed-1\0${name}`);
}

function broken(name: string, why: string, cause?: unknown): PicketError {
  return new PicketError(
    'failed_precondition',
    'seal_broken',
    `Cannot open the sealed value "${name}": ${why}`,
    {
      cause,
    },
  );
}
