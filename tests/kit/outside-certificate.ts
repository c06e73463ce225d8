import { chownSync, mkdirSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { runOk } from './child.ts';
import { accountOf } from './programs.ts';

/** A key with a certificate, as files. */
export interface OutsideCertificate {
  readonly certificate: string;
  readonly key: string;
  /** SHA-256 of the public key, as policies name it. */
  readonly pin: string;
}

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];

/** Makes a key and a certificate for names and addresses by OpenSSL, signed by `issuer` or by itself, good for two days. */
export async function makeOutsideCertificate(
  folder: string,
  options: { readonly names: readonly string[]; readonly issuer?: OutsideCertificate | undefined },
): Promise<OutsideCertificate> {
  const { names, issuer } = options;
  mkdirSync(folder, { recursive: true });
  const [certificate, key] = [join(folder, 'certificate.pem'), join(folder, 'certificate.key')];
  const signed = issuer === undefined ? [] : ['-CA', issuer.certificate, '-CAkey', issuer.key];
  const subject = ['-subj', `/CN=${names[0] ?? 'outside'}`];
  const extensions = [
    '-addext',
    `subjectAltName=${names.map(nameOf).join(',')}`,
    '-addext',
    `basicConstraints=critical,CA:${issuer === undefined ? 'TRUE' : 'FALSE'}`,
  ];
  const made = ['-keyout', key, '-out', certificate];
  await runOk(['openssl', 'req', '-x509', ...EC, ...signed, ...subject, ...extensions, ...made]);
  const { uid, gid } = accountOf('www-data');
  chownSync(key, uid, gid);
  const script = `openssl x509 -in ${certificate} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64`;
  return { certificate, key, pin: (await runOk(['bash', '-c', script])).trim() };
}

function nameOf(name: string): string {
  return isIP(name) === 0 ? `DNS:${name}` : `IP:${name}`;
}
