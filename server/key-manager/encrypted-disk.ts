import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import { encryptPkcs8, readPkcs8Pem } from './encrypted-pkcs8.ts';
import type { KeyManager, SigningKey } from './key-manager.ts';
import { generatePkcs8, openSoftwareKey, requireKeyName } from './software-key.ts';

export interface EncryptedDiskOptions {
  /** Made with mode 0700 when absent. */
  readonly directory: string;
  /** File with the secret that encrypts the keys; made at the first start. Keep it apart from backups of the directory. */
  readonly secretFile: string;
}

const SUFFIX = '.key.pem';
const SECRET_BYTES = 32;
/** The secret is random: rounds would add nothing. */
const ROUNDS = 1000;

/**
 * Keys as encrypted PKCS#8 files. Throws `failed_precondition` when directory or secret are open to others (`key_permissions`), or when there are keys but no
 * secret (`key_secret_missing`).
 */
export async function openEncryptedDisk(options: EncryptedDiskOptions): Promise<KeyManager> {
  const { directory, secretFile } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await requirePrivate(directory);
  const hasKeys = (await readdir(directory)).some((name) => name.endsWith(SUFFIX));
  return new EncryptedDiskKeyManager(directory, await readSecret(secretFile, hasKeys));
}

class EncryptedDiskKeyManager implements KeyManager {
  readonly #directory: string;
  readonly #secret: string;
  readonly #opened = new Map<string, SigningKey>();

  constructor(directory: string, secret: string) {
    this.#directory = directory;
    this.#secret = secret;
  }

  async generate(name: string): Promise<SigningKey> {
    return await this.importKey(name, await generatePkcs8());
  }

  async importKey(name: string, pkcs8: Uint8Array): Promise<SigningKey> {
    requireKeyName(name);
    const key = openSoftwareKey(name, pkcs8);
    await writeDurably(this.#pathOf(name), await encryptPkcs8(pkcs8, this.#secret, ROUNDS));
    this.#opened.set(name, key);
    return key;
  }

  async find(name: string): Promise<SigningKey | undefined> {
    requireKeyName(name);
    const known = this.#opened.get(name);
    if (known !== undefined) return known;
    const text = await readIfPresent(this.#pathOf(name));
    if (text === undefined) return undefined;
    const key = openSoftwareKey(name, readPkcs8Pem(text, this.#secret));
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

async function readSecret(path: string, hasKeys: boolean): Promise<string> {
  const existing = await readIfPresent(path);
  if (existing !== undefined) {
    await requirePrivate(path);
    if (!/^[0-9a-f]{64}\n?$/.test(existing))
      throw refuse('key_secret_invalid', `The secret ${path} is not 64 hexadecimal digits`);
    return existing.trim();
  }
  if (hasKeys)
    throw refuse('key_secret_missing', `The keys are there, but the secret ${path} that opens them is not`);
  const secret = randomBytes(SECRET_BYTES).toString('hex');
  await writeDurably(path, `${secret}\n`);
  return secret;
}

async function requirePrivate(path: string): Promise<void> {
  const { mode, uid } = await stat(path);
  const own = process.geteuid?.() ?? 0;
  if (uid !== own && uid !== 0)
    throw refuse('key_permissions', `Cannot use ${path}: it belongs to uid ${uid}, not to uid ${own}`);
  if ((mode & 0o077) !== 0)
    throw refuse('key_permissions', `Cannot use ${path}: others may read or write it (chmod go= ${path})`);
}

/** Written aside and renamed: after a crash there is the old content or the new one. */
async function writeDurably(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  const file = await open(draft, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
}

async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function refuse(reason: string, message: string): PicketError {
  return new PicketError('failed_precondition', reason, message);
}
