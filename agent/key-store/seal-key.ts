import { randomBytes, randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { chmod, link, open, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';

/** Bytes of the sealing key (AES-256). */
export const SEAL_KEY_BYTES = 32;

/** The name under which systemd may hand over the key (`LoadCredentialEncrypted=picket-seal-key:…`). */
const SEAL_KEY_CREDENTIAL = 'picket-seal-key';

/** Which file the sealing key stands in: a systemd credential goes before the file on disk. */
export interface SealKeyLocation {
  /** `$CREDENTIALS_DIRECTORY`, when systemd set it. */
  readonly credentialsDirectory: string | undefined;
  /** The key file beside the data otherwise. */
  readonly keyFile: string;
}

/**
 * The key that seals the agent's state. Throws `failed_precondition`, reason `seal_key_invalid`, when it has the wrong length or others may
 * read it, and `seal_key_missing` when there is none and `mayCreate` is false: sealed state without its key must not be taken for a first start.
 */
export async function readSealKey(location: SealKeyLocation, mayCreate: boolean): Promise<Uint8Array> {
  const { credentialsDirectory, keyFile } = location;
  if (credentialsDirectory !== undefined) {
    const credential = await readKeyFile(join(credentialsDirectory, SEAL_KEY_CREDENTIAL));
    if (credential !== undefined) return credential;
  }
  const existing = await readKeyFile(keyFile);
  if (existing !== undefined) return existing;
  if (!mayCreate)
    throw refuse('seal_key_missing', `Cannot open the sealed state: its key ${keyFile} is missing`);
  await createKeyFile(keyFile);
  const created = await readKeyFile(keyFile);
  if (created === undefined) throw refuse('seal_key_missing', `Cannot read the new key ${keyFile}`);
  return created;
}

/** Refuses a file or directory that somebody else than its owner may touch, or that is not ours. Throws `failed_precondition`, reason `seal_permissions`. */
export function requirePrivate(path: string, status: Stats): void {
  const uid = process.geteuid?.() ?? 0;
  if (status.uid !== uid && status.uid !== 0)
    throw refuse(
      'seal_permissions',
      `Cannot use ${path}: it belongs to uid ${status.uid}, not to uid ${uid}`,
    );
  if ((status.mode & 0o077) !== 0) {
    const mode = (status.mode & 0o777).toString(8).padStart(4, '0');
    throw refuse('seal_permissions', `Cannot use ${path}: its mode is ${mode}, others may read or write it`);
  }
}

/** Makes the entries of a directory survive a power cut. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function readKeyFile(path: string): Promise<Uint8Array | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw refuse('seal_key_invalid', `Cannot open the sealing key ${path}`, cause);
  }
  try {
    requirePrivate(path, await handle.stat());
    const key = await handle.readFile();
    if (key.length !== SEAL_KEY_BYTES)
      throw refuse(
        'seal_key_invalid',
        `The sealing key ${path} has ${key.length} bytes, not ${SEAL_KEY_BYTES}`,
      );
    return key;
  } finally {
    await handle.close();
  }
}

/** Written aside and linked into place: two agents that start at once end up with one key, and a crash leaves no half of one. */
async function createKeyFile(path: string): Promise<void> {
  const draft = `${path}.${randomUUID()}`;
  const handle = await open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(randomBytes(SEAL_KEY_BYTES));
    await handle.sync();
  } finally {
    await handle.close();
  }
  await chmod(draft, 0o400);
  await link(draft, path).catch((error: unknown) => {
    if (!isExisting(error)) throw error;
  });
  await unlink(draft);
  await syncDirectory(dirname(path));
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

function isExisting(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EEXIST';
}

function refuse(reason: string, message: string, cause?: unknown): PicketError {
  return new PicketError('failed_precondition', reason, message, { cause });
}
