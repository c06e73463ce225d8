import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  authorityProfile,
  leafProfile,
  makeCertificate,
  makeKeys,
  type TestCertificate,
} from '../../kit/test-authority.ts';
import { webcrypto } from 'node:crypto';

const DAY_MS = 86_400_000;

/** The files that a peer's two sides need, PEM. */
export interface PeerCertificates {
  readonly authority: string;
  readonly caller: { readonly certificate: string; readonly key: string; readonly both: string };
  readonly called: { readonly certificate: string; readonly key: string; readonly both: string };
}

/** An authority and two leaves with the profile of X509-SVIDs, P-256 as Picket's own. */
export async function writePeerCertificates(folder: string): Promise<PeerCertificates> {
  const life = { notBeforeMs: Date.now() - DAY_MS, notAfterMs: Date.now() + DAY_MS };
  const root = await makeCertificate({ ...authorityProfile('bench.test'), ...life });
  const authority = join(folder, 'authority.pem');
  writeFileSync(authority, root.certificate.toString('pem'));
  const leaf = async (name: string): Promise<PeerCertificates['caller']> => {
    const profile = { ...leafProfile(`spiffe://bench.test/${name}`), ...life, keys: await makeKeys() };
    return await writeLeaf(join(folder, name), await makeCertificate(profile, root));
  };
  return { authority, caller: await leaf('caller'), called: await leaf('called') };
}

async function writeLeaf(
  path: string,
  { certificate, keys }: TestCertificate,
): Promise<PeerCertificates['caller']> {
  const der = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  const base64 = Buffer.from(der).toString('base64').replaceAll(/.{64}/g, '$&\n').trimEnd();
  const keyPem = `-----BEGIN PRIVATE KEY-----\n${base64}\n-----END PRIVATE KEY-----\n`;
  const certificatePem = `${certificate.toString('pem')}\n`;
  const files = { certificate: `${path}.pem`, key: `${path}.key`, both: `${path}.both.pem` };
  writeFileSync(files.certificate, certificatePem);
  writeFileSync(files.key, keyPem);
  writeFileSync(files.both, certificatePem + keyPem);
  return files;
}
