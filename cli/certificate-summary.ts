import { createHash } from 'node:crypto';
import { PicketError } from '../shared/errors/errors.ts';
import { parseSpiffeId, trustDomainOf } from '../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../shared/spiffe/trust-domain.ts';
import { decodePemBlock } from '../shared/wire/pem.ts';
import { parseX509Certificate } from '../shared/wire/x509-certificate.ts';

/** What people want to know of a certificate. */
export interface CertificateSummary {
  readonly file: string;
  /** Its SPIFFE ID. */
  readonly uri: string;
  /** RFC 3339. */
  readonly notAfter: string;
  /** SHA-256 of the public key (SubjectPublicKeyInfo, DER): what hosts pin. */
  readonly keySha256: string;
}

/** Takes a certificate apart for people. Throws `invalid_argument` when it cannot be read. */
export function describeCertificate(file: string, der: Uint8Array): CertificateSummary {
  const { extensions, notAfterMs, publicKeySpki } = parseX509Certificate(der);
  return {
    file,
    uri: extensions.subjectAlternativeName?.uris[0] ?? '-',
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
