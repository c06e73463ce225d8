import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { KeyManager, SigningKey } from './key-manager.ts';
import { deriveSealKey, MAX_SEALED_KEY_BYTES, sealKey, unsealKey } from './sealed-key.ts';
import { readPrivateFile, readSecret, requirePrivate, writeDurably } from './secret-file.ts';
import { generatePkcs8, openSoftwareKey, requireKeyName, type SoftwareKey } from './software-key.ts';

export interface EncryptedDiskOptions {
  /** Made with mode 0700 when absent. */
  readonly directory: string;
  /** File with the secret that seals the keys; made at the first start. Keep it apart from backups of the directory; it may be a systemd credential. */
  readonly secretFile: string;
}

const SUFFIX = '.key.sealed';

/**
 * Keys as sealed files. Throws `failed_precondition` when directory or secret are open to others (`key_permissions`), when there are keys but no secret
 * (`key_secret_missing`), or when the secret is none (`key_secret_invalid`).
 */
export async function openEncryptedDisk(options: EncryptedDiskOptions): Promise<KeyManager> {
  const { directory, secretFile } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  requirePrivate(directory, await stat(directory));
  const hasKeys = (await readdir(directory)).some((name) => name.endsWith(SUFFIX));
  return new EncryptedDiskKeyManager(directory, deriveSealKey(await readSecret(secretFile, !hasKeys)));
}

class EncryptedDiskKeyManager implements KeyManager {
  readonly #directory: string;
  readonly #sealKey: Uint8Array;
  readonly #opened = new Map<string, SoftwareKey>();
  /** Ends when the last import has: two of one name must not leave one key on disk and another in memory. */
  #imports: Promise<unknown> = Promise.resolve();

  constructor(directory: string, sealKeyBytes: Uint8Array) {
    this.#directory = directory;
    this.#sealKey = sealKeyBytes;
  }

  async generate(name: string): Promise<SigningKey> {
    return await this.importKey(name, await generatePkcs8());
  }

  async importKey(name: string, pkcs8: Uint8Array): Promise<SigningKey> {
    requireKeyName(name);
    const key = openSoftwareKey(name, pkcs8);
    const done = this.#replace(key, pkcs8, this.#imports);
    this.#imports = done.catch(() => undefined);
    await done;
    return key;
  }

  async #replace(key: SoftwareKey, pkcs8: Uint8Array, before: Promise<unknown>): Promise<void> {
    await before;
    await writeDurably(this.#pathOf(key.name), sealKey(this.#sealKey, key.name, pkcs8));
    this.#opened.get(key.name)?.retire();
    this.#opened.set(key.name, key);
  }

  async find(name: string): Promise<SigningKey | undefined> {
    requireKeyName(name);
    await this.#imports;
    const file = this.#opened.has(name)
      ? undefined
      : await readPrivateFile(this.#pathOf(name), MAX_SEALED_KEY_BYTES);
    const known = this.#opened.get(name);
    if (known !== undefined || file === undefined) return known;
    const key = openSoftwareKey(name, unsealKey(this.#sealKey, name, file));
    this.#opened.set(name, key);
    return key;
  }

  async list(): Promise<readonly string[]> {
    const names = await readdir(this.#directory);
    return names
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => name.slice(0, -SUFFIX.length))
      .toSorted();
  }

  #pathOf(name: string): string {
    return join(this.#directory, `${name}${SUFFIX}`);
  }
}
