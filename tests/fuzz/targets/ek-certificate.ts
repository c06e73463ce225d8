import { X509Certificate } from 'node:crypto';
import {
  isEkCertificateTrusted,
  parseEkCertificate,
  parseManufacturerCertificates,
} from '../../../server/node-attestation/ek-certificate.ts';
import { SEEDS } from '../seeds.ts';
import { attempt, hexWords, outcomeOfRefusal, requireThat, words, type FuzzTarget } from '../target.ts';

const { ekCertificates, manufacturer } = SEEDS.tpm;
const REAL = Object.values(ekCertificates).map((pem) => new X509Certificate(pem));
const SPKIS = REAL.map(({ publicKey }) => publicKey.export({ type: 'spki', format: 'der' }));
const MANUFACTURERS = parseManufacturerCertificates({
  roots: manufacturer.root,
  intermediates: manufacturer.intermediate,
});
const NOW_MS = Date.parse('2027-01-01T00:00:00Z');

/** Certificates of endorsement keys, and of their manufacturers: what is trusted says what the manufacturer signed. */
export const target: FuzzTarget = {
  seeds: [
    ...REAL.map(({ raw }) => Uint8Array.from(raw)),
    ...words(manufacturer.root, manufacturer.root + manufacturer.intermediate),
  ],
  dictionary: [
    ...hexWords('0603551d25', '06056781050801', '0603551d13', '0603551d0f', '0101ff', '30030101ff'),
    ...words('-----BEGIN CERTIFICATE-----', '-----END CERTIFICATE-----\n', '\r\n', 'MII', '='),
  ],
  maxBytes: 8192,
  check(input) {
    const ways = SPKIS.map((ekSpki) => wayOf(input, ekSpki));
    const pem = input.toString('latin1');
    const { value, refusal } = attempt(() =>
      parseManufacturerCertificates({ roots: pem, intermediates: pem }),
    );
    const authorities = value?.roots.map(({ ca }) => ca) ?? [];
    requireThat(!authorities.includes(false), 'an authority that is none');
    ways.push(
      refusal === undefined ? `${Math.min(authorities.length, 3)} authorities` : outcomeOfRefusal(refusal),
    );
    return ways.join(' | ');
  },
};

function wayOf(der: Buffer, ekSpki: Uint8Array): string {
  const { value: certificate, refusal } = attempt(() => parseEkCertificate(der, { ekSpki }));
  if (certificate === undefined) return outcomeOfRefusal(refusal);
  const isTrusted = isEkCertificateTrusted(certificate, { manufacturers: MANUFACTURERS, nowMs: NOW_MS });
  const isReal = REAL.some((real) => isSame(real, certificate));
  requireThat(isReal || !isTrusted, 'a certificate that the manufacturer never made is trusted');
  return `key ${isTrusted}`;
}

/** By all that is signed: the signature of a certificate can be written in more than one way. */
function isSame(one: X509Certificate, other: X509Certificate): boolean {
  const facts = ({
    serialNumber,
    subject,
    subjectAltName,
    validFrom,
    validTo,
    keyUsage,
  }: X509Certificate): string =>
    JSON.stringify([serialNumber, subject, subjectAltName, validFrom, validTo, keyUsage]);
  return facts(one) === facts(other);
}
