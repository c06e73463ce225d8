import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { getCACertificates } from 'node:tls';
import { describeError, PicketError } from '../../shared/errors/errors.ts';
import { requirePrivate } from '../key-store/seal-key.ts';
import type { InspectionFiles, InspectionMaterial } from './inspection.ts';

const MAX_BYTES = 4 * 1024 * 1024;

/**
 * Reads what `egress.inspection` names; undefined where it names nothing. Whether it is of use, `InspectionAuthority` finds out. Throws `failed_precondition`, reason
 * `inspection_invalid`, where a file cannot be read, or others than root and the agent may read the key.
 */
export async function readInspection(
  files: InspectionFiles | undefined,
): Promise<InspectionMaterial | undefined> {
  if (files === undefined) return undefined;
  const { certificateFile, keyFile, serverAuthoritiesFile } = files;
  try {
    return {
      chainPem: await readText(certificateFile),
      keyPem: await readPrivate(keyFile),
      serverAuthoritiesPem:
        serverAuthoritiesFile === undefined ? readHostAuthorities() : await readText(serverAuthoritiesFile),
    };
  } catch (cause) {
    const message = `Cannot read what TLS is to be inspected with: ${describeError(cause)}`;
    throw new PicketError('failed_precondition', 'inspection_invalid', message, { cause });
  }
}

function readHostAuthorities(): string {
  const found = getCACertificates('system');
  if (found.length === 0)
    throw new RangeError(
      'this host has no authorities: name them by egress.inspection.server_authorities_file',
    );
  return found.join('\n');
}

async function readText(path: string): Promise<string> {
  const handle = await open(path);
  try {
    return await readBounded(path, handle);
  } finally {
    await handle.close();
  }
}

async function readBounded(path: string, handle: FileHandle): Promise<string> {
  const { size } = await handle.stat();
  if (size > MAX_BYTES) throw new RangeError(`${path} is longer than ${MAX_BYTES} bytes`);
  return await handle.readFile('latin1');
}

/** What is looked at is what is read: a link, or a file put in its place meanwhile, is not. */
async function readPrivate(path: string): Promise<string> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(explainLink(path));
  try {
    requirePrivate(path, await handle.stat());
    return await readBounded(path, handle);
  } finally {
    await handle.close();
  }
}

function explainLink(path: string): (cause: unknown) => never {
  return (cause) => {
    const isLink = cause instanceof Error && 'code' in cause && cause.code === 'ELOOP';
    if (isLink) throw new RangeError(`${path} is a symbolic link: name the file itself`, { cause });
    throw cause;
  };
}
