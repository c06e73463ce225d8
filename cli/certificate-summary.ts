import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { PicketError } from '../shared/errors/errors.ts';
import { parseSpiffeId, trustDomainOf } from '../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../shared/spiffe/trust-domain.ts';
import { decodePemBlock, decodePemBlocks } from '../shared/wire/pem.ts';
import { parseX509Certificate } from '../shared/wire/x509-certificate.ts';
import { CEREMONY, readText } from './ceremony-folder.ts';

/** What people want to know of a certificate. */
export interface CertificateSummary {
  readonly file: string;
  /** Its SPIFFE ID. */
  readonly uri: string;
  readonly subject: string;
  /** Whether it names itself as its issuer. */
  readonly isRoot: boolean;
  /** RFC 3339. */
  readonly notAfter: string;
  /** SHA-256 of the public key (SubjectPublicKeyInfo, DER): what hosts pin. */
  readonly keySha256: string;
}

/** Where certificates are looked for: in the folder of the ceremony, and in a server's. */
const FILES = ['', CEREMONY.online].flatMap((folder) =>
  ['root.pem', 'bundle.pem', 'intermediate.pem', 'policy.pem'].map((name) => join(folder, name)),
);

/**
 * The certificates of a file, or of the files that the ceremony writes into a folder; each key once. Throws `not_found`, reason `ca_missing`, for a
 * folder without one.
 */
export function summarizeCertificates(path: string): readonly CertificateSummary[] {
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  const files = isFolder ? FILES.map((name) => join(path, name)).filter((file) => existsSync(file)) : [path];
  const certificates = new Map<string, CertificateSummary>();
  for (const file of files)
    for (const der of decodePemBlocks('CERTIFICATE', readText(file))) {
      const summary = describeCertificate(file, der);
      if (!certificates.has(summary.keySha256)) certificates.set(summary.keySha256, summary);
    }
  if (certificates.size > 0) return [...certificates.values()];
  throw new PicketError('not_found', 'ca_missing', `There is no certificate authority in ${path}`);
}

/** Takes a certificate apart for people. Throws `invalid_argument` when it cannot be read. */
function describeCertificate(file: string, der: Uint8Array): CertificateSummary {
  const { extensions, notAfterMs, publicKeySpki, subject, issuer } = parseX509Certificate(der);
  return {
    file,
    uri: extensions.subjectAlternativeName?.uris[0] ?? '-',
    subject: new X509Certificate(der).subject.split('\n').join(', '),
    isRoot: Buffer.from(subject).equals(issuer),
    notAfter: new Date(notAfterMs).toISOString(),
    keySha256: createHash('sha256').update(publicKeySpki).digest('hex'),
  };
}

/** The trust domain that a root certificate (PEM) names. Throws `invalid_argument`, reason `root_invalid`. */
export function trustDomainOfRoot(pem: string): TrustDomain {
  const { uri } = describeCertificate('', decodePemBlock('CERTIFICATE', pem));
  try {
    return trustDomainOf(parseSpiffeId(uri));
  } catch (cause) {
    throw new PicketError('invalid_argument', 'root_invalid', 'The root does not name a trust domain', {
      cause,
    });
  }
}
