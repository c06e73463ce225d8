import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OnlineMaterial, RootAuthority } from '../server/ca/ceremony.ts';
import { PicketError } from '../shared/errors/errors.ts';
import { decodePemBlock, decodePemBlocks, encodePem } from '../shared/wire/pem.ts';

/** What `picket ca init` writes into its folder. The folder `online` is what the server gets (server/ca/open-authority.ts). */
export const CEREMONY = {
  root: 'root.pem',
  rootKey: 'root.key',
  online: 'online',
  intermediate: 'online/intermediate.pem',
} as const;

/** Writes certificate and key of a new root; the key encrypted if there is a passphrase. Overwrites nothing. */
export async function writeRoot(options: {
  readonly folder: string;
  readonly keyFile: string;
  readonly root: RootAuthority;
  readonly passphrase: string | undefined;
}): Promise<void> {
  const { encryptPkcs8 } = await import('../server/key-manager/encrypted-pkcs8.ts');
  const { folder, keyFile, root, passphrase } = options;
  const pem =
    passphrase === undefined
      ? encodePem('PRIVATE KEY', root.privateKeyPkcs8)
      : await encryptPkcs8(root.privateKeyPkcs8, passphrase);
  writeNew(keyFile, pem, 0o600);
  writeNew(join(folder, CEREMONY.root), root.certificatePem, 0o644);
}

/** Writes what the server runs with, in the place of what may be there. */
export async function writeOnline(
  folder: string,
  root: RootAuthority,
  online: OnlineMaterial,
): Promise<void> {
  const { ONLINE_FILES } = await import('../server/ca/open-authority.ts');
  const out = join(folder, CEREMONY.online);
  makeFolder(out);
  const write = (name: string, text: string, mode: number): void =>
    requireWritten(join(out, name), (path) => writeFileSync(path, text, { mode }));
  if (!holdsRoot(join(out, ONLINE_FILES.bundle), root))
    write(ONLINE_FILES.bundle, root.certificatePem, 0o644);
  write(ONLINE_FILES.intermediate.key, encodePem('PRIVATE KEY', online.intermediateKeyPkcs8), 0o600);
  write(ONLINE_FILES.intermediate.certificate, online.intermediatePem, 0o644);
  write(ONLINE_FILES.policy.key, encodePem('PRIVATE KEY', online.policyKeyPkcs8), 0o600);
  write(ONLINE_FILES.policy.certificate, online.policyPem, 0o644);
}

/** Makes a folder for its owner alone. Throws `invalid_argument`, reason `file_unwritable`. */
export function makeFolder(path: string): void {
  requireWritten(path, () => mkdirSync(path, { recursive: true, mode: 0o700 }));
}

/** Throws `already_exists`, reason `file_exists`, when there is such a file. */
export function requireAbsent(path: string): void {
  if (!existsSync(path)) return;
  throw new PicketError(
    'already_exists',
    'file_exists',
    `${path} is already there: nothing was changed. To replace what the root signed, use picket ca renew; for a new root, name another folder`,
  );
}

/** The text of a file. Throws `invalid_argument`, reason `file_unreadable`. */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new PicketError('invalid_argument', 'file_unreadable', `Cannot read ${path}`, { cause });
  }
}

/** While roots change, the bundle holds the old and the new one: such a bundle stays as it is. */
function holdsRoot(bundleFile: string, root: RootAuthority): boolean {
  if (!existsSync(bundleFile)) return false;
  const own = Buffer.from(decodePemBlock('CERTIFICATE', root.certificatePem));
  return decodePemBlocks('CERTIFICATE', readText(bundleFile)).some((der) => own.equals(der));
}

function writeNew(path: string, text: string, mode: number): void {
  requireAbsent(path);
  requireWritten(path, () => writeFileSync(path, text, { mode, flag: 'wx' }));
}

function requireWritten(path: string, write: (path: string) => void): void {
  try {
    write(path);
  } catch (cause) {
    throw new PicketError('invalid_argument', 'file_unwritable', `Cannot write ${path}`, { cause });
  }
}
