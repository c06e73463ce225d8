import { mkdir, open, readdir, readFile, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import { SEAL_OVERHEAD_BYTES, SealedBox, SealError } from '../../shared/runtime/sealed-box.ts';
import { readSealKey, requirePrivate, syncDirectory } from './seal-key.ts';
import type { SealedStore } from './sealed-store.ts';

const BOX = new SealedBox({ magic: 'PKS1', context: 'picket-sealed-1' });

/** The largest value in bytes: a directory of some 100,000 records stays well below. */
const MAX_SEALED_BYTES = 256 * 1024 * 1024;

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
      if (status.size > MAX_SEALED_BYTES + SEAL_OVERHEAD_BYTES) throw broken(name, 'it is too large');
      file = await readFile(path);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    }
    return unseal(this.#key, name, file);
  }

  async write(name: string, value: Uint8Array): Promise<void> {
    if (value.length > MAX_SEALED_BYTES)
      throw new RangeError(`Cannot seal ${name}: ${value.length} bytes are more than ${MAX_SEALED_BYTES}`);
    const path = this.#path(name);
    const draft = `${path}.${process.pid}-${this.#drafts++}`;
    try {
      const handle = await open(draft, 'wx', 0o600);
      try {
        await handle.writeFile(BOX.seal(this.#key, name, value));
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(draft, path);
    } catch (error) {
      await unlink(draft).catch(() => undefined);
      throw notWritten(name, error);
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
}

function unseal(key: Uint8Array, name: string, file: Uint8Array): Uint8Array {
  try {
    return BOX.open(key, name, file);
  } catch (cause) {
    const isForeign = cause instanceof SealError && cause.failure === 'not_a_sealed_box';
    throw broken(
      name,
      isForeign ? 'it is no sealed file' : 'it was altered or belongs to another key',
      cause,
    );
  }
}

function notWritten(name: string, cause: unknown): PicketError {
  return new PicketError('unavailable', 'state_not_written', `Cannot write the sealed value "${name}"`, {
    cause,
  });
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
