import { X509Certificate } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';

/** Certificates of TPM manufacturers, as the operator trusts them. EK certificates chain through intermediates to a root. */
export interface ManufacturerCertificates {
  readonly roots: readonly X509Certificate[];
  readonly intermediates: readonly X509Certificate[];
}

/** How many authorities may stand above an EK certificate, the root included. */
const MAX_AUTHORITIES = 4;
/** tcg-kp-EKCertificate: says that the key is an endorsement key, which not all that a manufacturer certifies is. */
const EK_CERTIFICATE_USAGE = '2.23.133.8.1';
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** Reads certificates in PEM. Throws `invalid_argument`, reason `manufacturer_certificate_invalid`, also for one that is not an authority's. */
export function parseManufacturerCertificates(pem: {
  readonly roots: string;
  readonly intermediates: string;
}): ManufacturerCertificates {
  return { roots: parseAuthorities(pem.roots), intermediates: parseAuthorities(pem.intermediates) };
}

/**
 * Reads the certificate that a host shows and requires that it certifies its endorsement key. Throws `permission_denied`, reasons
 * `ek_certificate_invalid` and `ek_certificate_mismatch`.
 */
export function parseEkCertificate(
  der: Uint8Array,
  { ekSpki }: { readonly ekSpki: Uint8Array },
): X509Certificate {
  const { certificate, spki } = readCertificate(der);
  if (!spki.equals(ekSpki))
    throw new PicketError(
      'permission_denied',
      'ek_certificate_mismatch',
      'The EK certificate certifies another key than the endorsement key',
    );
  return certificate;
}

/**
 * Whether the certificate is an EK certificate, valid at `nowMs`, that chains to one of the roots. All signing certificates are the operator's, so the
 * host cannot choose what is verified. The critical subject alternative name of EK certificates is not looked at; there is no check of revocation.
 */
export function isEkCertificateTrusted(
  certificate: X509Certificate,
  { manufacturers, nowMs }: { readonly manufacturers: ManufacturerCertificates; readonly nowMs: number },
): boolean {
  if (certificate.ca || !(certificate.keyUsage ?? []).includes(EK_CERTIFICATE_USAGE)) return false;
  return chainsToRoot(certificate, { manufacturers, nowMs, authoritiesLeft: MAX_AUTHORITIES });
}

function chainsToRoot(
  certificate: X509Certificate,
  path: {
    readonly manufacturers: ManufacturerCertificates;
    readonly nowMs: number;
    readonly authoritiesLeft: number;
  },
): boolean {
  const { manufacturers, nowMs, authoritiesLeft } = path;
  if (authoritiesLeft === 0 || !isValidAt(certificate, nowMs)) return false;
  const isRoot = (root: X509Certificate) => isValidAt(root, nowMs) && isIssuedBy(certificate, root);
  if (manufacturers.roots.some(isRoot)) return true;
  return manufacturers.intermediates.some(
    (intermediate) =>
      isIssuedBy(certificate, intermediate) &&
      chainsToRoot(intermediate, { ...path, authoritiesLeft: authoritiesLeft - 1 }),
  );
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function isValidAt(certificate: X509Certificate, nowMs: number): boolean {
  return Date.parse(certificate.validFrom) <= nowMs && nowMs <= Date.parse(certificate.validTo);
}

function readCertificate(der: Uint8Array): { readonly certificate: X509Certificate; readonly spki: Buffer } {
  try {
    const certificate = new X509Certificate(der);
    return { certificate, spki: certificate.publicKey.export({ type: 'spki', format: 'der' }) };
  } catch (error) {
    throw new PicketError(
      'permission_denied',
      'ek_certificate_invalid',
      'The EK certificate cannot be read',
      {
        cause: error,
      },
    );
  }
}

function parseAuthorities(pem: string): readonly X509Certificate[] {
  return (pem.match(PEM_CERTIFICATE) ?? []).map((text) => {
    const authority = parseAuthority(text);
    if (authority.ca) return authority;
    throw invalidManufacturer(`"${authority.subject}" is not an authority`);
  });
}

function parseAuthority(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw invalidManufacturer('it is not a certificate', error);
  }
}

function invalidManufacturer(why: string, cause?: unknown): PicketError {
  return new PicketError(
    'invalid_argument',
    'manufacturer_certificate_invalid',
    `Cannot trust a TPM manufacturer's certificate: ${why}`,
    { cause },
  );
}
