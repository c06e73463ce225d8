import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { runOk } from './child.ts';

/** An authority by which TLS may be inspected, as files of OpenSSL; the key is its owner's alone. */
export interface InspectionAuthorityFiles {
  readonly certificate: string;
  readonly key: string;
}

export interface InspectionAuthorityOptions {
  /** Extensions in the place of those of an authority, as `openssl req -addext` takes them. */
  readonly extensions?: readonly string[];
  /** As `openssl req -newkey` takes it; on P-256 unless given. */
  readonly keyArgs?: readonly string[];
  readonly days?: number;
  /** As `openssl req -subj` takes it. */
  readonly subject?: string;
  /** Who signs it; itself unless given. */
  readonly issuer?: InspectionAuthorityFiles;
}

const P_256 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
const OF_AUTHORITY = ['basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign,cRLSign'];

/** Makes one by OpenSSL. */
export async function makeInspectionAuthority(
  folder: string,
  options: InspectionAuthorityOptions = {},
): Promise<InspectionAuthorityFiles> {
  const { extensions = OF_AUTHORITY, keyArgs = P_256, days = 30, issuer } = options;
  mkdirSync(folder, { recursive: true });
  const [certificate, key] = [join(folder, 'inspection.pem'), join(folder, 'inspection.key')];
  const subject = ['-subj', options.subject ?? '/O=Example/CN=Inspection CA', '-days', String(days)];
  const files = ['-keyout', key, '-out', certificate];
  await runOk([
    'openssl',
    'req',
    '-x509',
    ...keyArgs,
    '-nodes',
    ...(issuer === undefined ? [] : ['-CA', issuer.certificate, '-CAkey', issuer.key]),
    ...subject,
    ...extensions.flatMap((extension) => ['-addext', extension]),
    ...files,
  ]);
  chmodSync(key, 0o600);
  return { certificate, key };
}
