import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';

const MAX_BYTES = 1024 * 1024;
const MAX_CERTIFICATES = 512;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/**
 * The certificates (PEM) of the authorities that policies may name, from the files that the configuration names. Throws `invalid_argument`, reason `authority_invalid`, where a file
 * cannot be read or has no certificates: a check that cannot be made must not look as if it could.
 */
export async function readAuthorities(
  files: Readonly<Record<string, string>>,
): Promise<Readonly<Record<string, string>>> {
  const authorities: Record<string, string> = {};
  for (const [name, path] of Object.entries(files)) authorities[name] = await readCertificates(name, path);
  return authorities;
}

async function readCertificates(name: string, path: string): Promise<string> {
  try {
    const text = await readFile(path, 'latin1');
    const found = text.length > MAX_BYTES ? [] : (text.match(CERTIFICATE) ?? []);
    if (found.length === 0 || found.length > MAX_CERTIFICATES)
      throw new RangeError(`it has ${found.length} certificates`);
    return found.map((pem) => new X509Certificate(pem).toString()).join('');
  } catch (cause) {
    const message = `Cannot read the certificates of the authority "${name}" from ${path}`;
    throw new PicketError('invalid_argument', 'authority_invalid', message, { cause });
  }
}
