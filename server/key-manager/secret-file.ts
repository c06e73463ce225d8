import { randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { open, rename, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';

const SECRET_BYTES = 32;

/**
 * The random bytes in a secret file (64 hexadecimal digits), which is made if `mayCreate`. Throws `failed_precondition`: `key_secret_missing`, `key_secret_invalid`, or
 * `key_permissions` when others may read it.
 */
export async function readSecret(path: string, mayCreate: boolean): Promise<Uint8Array> {
  const text = await readPrivateFile(path, 1024);
  if (text !== undefined) return parseSecret(path, text.toString('latin1'));
  if (!mayCreate)
    throw refuse(
      'key_secret_missing',
      `The keys are there, but the secret ${path} that opens them is not: bring it back from where it is kept`,
    );
  const secret = randomBytes(SECRET_BYTES);
  await writeDurably(path, Buffer.from(`${secret.toString('hex')}\n`));
  return secret;
}

/** Refuses a file or a directory that others may touch. Throws `failed_precondition`, reason `key_permissions`. */
export function requirePrivate(path: string, { mode, uid }: Stats): void {
  const own = process.geteuid?.() ?? 0;
  if (uid !== own && uid !== 0)
    throw refuse('key_permissions', `Cannot use ${path}: it belongs to uid ${uid}, not to uid ${own}`);
  if ((mode & 0o077) !== 0)
    throw refuse('key_permissions', `Cannot use ${path}: others may read or write it (chmod go= ${path})`);
}

/**
 * What stands in a file that only its owner may touch, or undefined without one. Throws `failed_precondition`: `key_permissions`, or `key_unreadable` for one that is
 * a link or has more than `maxBytes`.
 */
export async function readPrivateFile(path: string, maxBytes: number): Promise<Buffer | undefined> {
  const file = await openIfPresent(path);
  if (file === undefined) return undefined;
  try {
    const status = await file.stat();
    requirePrivate(path, status);
    if (!status.isFile() || status.size > maxBytes)
      throw refuse('key_unreadable', `Cannot use ${path}: it is no file, or has more than ${maxBytes} bytes`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** Written aside, synced and renamed: after a crash there is the old content or the new one. Mode 0600. */
export async function writeDurably(path: string, content: Uint8Array): Promise<void> {
  const draft = `${path}.${process.pid}.new`;
  const file = await open(draft, 'w', 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  await syncDirectory(dirname(path));
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function parseSecret(path: string, text: string): Uint8Array {
  if (!/^[0-9a-f]{64}\n?$/.test(text))
    throw refuse('key_secret_invalid', `The secret ${path} is not 64 hexadecimal digits`);
  return Buffer.from(text.trim(), 'hex');
}

async function openIfPresent(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw new PicketError('failed_precondition', 'key_unreadable', `Cannot open ${path}`, { cause });
  }
}

function refuse(reason: string, message: string): PicketError {
  return new PicketError('failed_precondition', reason, message);
}
