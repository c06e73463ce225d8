import { createPublicKey, X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  makeCertificate,
  type TestCertificate,
  type TestProfile,
  USAGE,
} from '../../tests/kit/test-authority.ts';
import vectors from '../../tests/vectors/tpm2.json';
import {
  isEkCertificateTrusted,
  parseEkCertificate,
  parseManufacturerCertificates,
} from './ek-certificate.ts';

const { root, intermediate } = vectors.manufacturer;
const nowMs = Date.parse('2027-01-01T00:00:00Z');
const spkiOf = (certificate: X509Certificate) =>
  certificate.publicKey.export({ type: 'spki', format: 'der' });
const none = { roots: '', intermediates: '' };

describe('isEkCertificateTrusted() on certificates that swtpm_localca made', () => {
  const manufacturers = parseManufacturerCertificates({ roots: root, intermediates: intermediate });

  for (const [name, pem] of Object.entries(vectors.ekCertificates)) {
    const certificate = new X509Certificate(pem);

    test(`trusts the ${name} key's certificate by root and intermediate, or by the intermediate as a root`, () => {
      expect(isEkCertificateTrusted(certificate, { manufacturers, nowMs })).toBe(true);
      const direct = parseManufacturerCertificates({ ...none, roots: intermediate });
      expect(isEkCertificateTrusted(certificate, { manufacturers: direct, nowMs })).toBe(true);
    });

    test(`does not trust the ${name} key's certificate when a link is missing or no root is configured`, () => {
      const broken = [none, { ...none, roots: root }, { ...none, intermediates: `${root}${intermediate}` }];
      for (const pems of broken) {
        const manufacturers = parseManufacturerCertificates(pems);
        expect(isEkCertificateTrusted(certificate, { manufacturers, nowMs })).toBe(false);
      }
    });

    test(`does not trust the ${name} key's certificate before its life begins`, () => {
      const early = Date.parse(certificate.validFrom) - 1000;
      expect(isEkCertificateTrusted(certificate, { manufacturers, nowMs: early })).toBe(false);
    });
  }
});

describe('isEkCertificateTrusted()', () => {
  const usage = '2.23.133.8.1';
  const authority = (subject: string): TestProfile => ({
    subject,
    isAuthority: true,
    keyUsage: [USAGE.keyCertSign],
  });
  const leaf: TestProfile = { subject: 'CN=tpm', isAuthority: false, purposes: [usage] };
  const at = Date.parse('2026-03-01T12:00:00Z');

  const isTrusted = (
    certificate: TestCertificate,
    by: { roots: TestCertificate[]; intermediates?: TestCertificate[] },
  ) =>
    isEkCertificateTrusted(new X509Certificate(certificate.der), {
      manufacturers: {
        roots: by.roots.map(({ der }) => new X509Certificate(der)),
        intermediates: (by.intermediates ?? []).map(({ der }) => new X509Certificate(der)),
      },
      nowMs: at,
    });

  test('trusts a leaf with the usage of EK certificates, and none without', async () => {
    const top = await makeCertificate(authority('CN=root'));
    expect(isTrusted(await makeCertificate(leaf, top), { roots: [top] })).toBe(true);
    const { purposes: _, ...without } = leaf;
    expect(isTrusted(await makeCertificate(without, top), { roots: [top] })).toBe(false);
    const server = { ...leaf, purposes: ['1.3.6.1.5.5.7.3.1'] };
    expect(isTrusted(await makeCertificate(server, top), { roots: [top] })).toBe(false);
  });

  test('does not trust an authority as an EK certificate, nor a root itself', async () => {
    const top = await makeCertificate({ ...authority('CN=root'), purposes: [usage] });
    const below = await makeCertificate({ ...authority('CN=below'), purposes: [usage] }, top);
    expect(isTrusted(below, { roots: [top] })).toBe(false);
    expect(isTrusted(top, { roots: [top] })).toBe(false);
  });

  test('does not trust what another authority of the same name signed', async () => {
    const top = await makeCertificate(authority('CN=root'));
    const impostor = await makeCertificate(authority('CN=root'));
    expect(isTrusted(await makeCertificate(leaf, impostor), { roots: [top] })).toBe(false);
  });

  test('does not trust a leaf that a leaf signed, though its issuer is configured', async () => {
    const top = await makeCertificate(authority('CN=root'));
    const middle = await makeCertificate({ ...leaf, subject: 'CN=middle' }, top);
    const below = await makeCertificate(leaf, middle);
    expect(isTrusted(below, { roots: [top], intermediates: [middle] })).toBe(false);
  });

  test('does not trust expired certificates anywhere in the chain', async () => {
    const ended = { notBeforeMs: at - 2000, notAfterMs: at - 1000 };
    const top = await makeCertificate(authority('CN=root'));
    expect(isTrusted(await makeCertificate({ ...leaf, ...ended }, top), { roots: [top] })).toBe(false);
    const middle = await makeCertificate({ ...authority('CN=middle'), ...ended }, top);
    const below = await makeCertificate(leaf, middle);
    expect(isTrusted(below, { roots: [top], intermediates: [middle] })).toBe(false);
    const oldTop = await makeCertificate({ ...authority('CN=old'), ...ended });
    expect(isTrusted(await makeCertificate(leaf, oldTop), { roots: [oldTop] })).toBe(false);
  });

  test('follows at most four authorities, and ends on authorities that certify each other', async () => {
    const chain = [await makeCertificate(authority('CN=authority 0'))];
    for (let n = 1; n < 5; n++)
      chain.push(await makeCertificate(authority(`CN=authority ${n}`), chain[n - 1]));
    const roots = chain.slice(0, 1);
    const intermediates = chain.slice(1);
    expect(isTrusted(await makeCertificate(leaf, chain[3]), { roots, intermediates })).toBe(true);
    expect(isTrusted(await makeCertificate(leaf, chain[4]), { roots, intermediates })).toBe(false);

    const one = await makeCertificate(authority('CN=one'));
    const two = await makeCertificate(authority('CN=two'), one);
    const oneByTwo = await makeCertificate({ ...authority('CN=one'), keys: one.keys }, two);
    expect(isTrusted(await makeCertificate(leaf, two), { roots, intermediates: [two, oneByTwo] })).toBe(
      false,
    );
  });
});

describe('parseEkCertificate()', () => {
  const rsa = new X509Certificate(vectors.ekCertificates.rsa2048);
  const ecc = new X509Certificate(vectors.ekCertificates.eccP384);

  test('accepts the certificate of the endorsement key and refuses that of another', () => {
    expect(parseEkCertificate(rsa.raw, { ekSpki: spkiOf(rsa) }).subject).toBe(rsa.subject);
    expect(reasonOf(() => parseEkCertificate(rsa.raw, { ekSpki: spkiOf(ecc) }))).toBe(
      'ek_certificate_mismatch',
    );
  });

  test('refuses every truncation with an error of ours', () => {
    const ekSpki = spkiOf(ecc);
    for (let length = 0; length < ecc.raw.length; length++)
      expect(reasonOf(() => parseEkCertificate(ecc.raw.subarray(0, length), { ekSpki }))).toBe(
        'ek_certificate_invalid',
      );
  });

  test('is never trusted with any byte altered, and fails only with errors of ours', () => {
    const ekSpki = spkiOf(ecc);
    const manufacturers = parseManufacturerCertificates({ roots: root, intermediates: intermediate });
    for (let index = 0; index < ecc.raw.length; index++) {
      const altered = Buffer.from(ecc.raw);
      altered[index] = (altered[index] ?? 0) ^ 0x55;
      reasonOf(() => {
        const certificate = parseEkCertificate(altered, { ekSpki });
        expect(isEkCertificateTrusted(certificate, { manufacturers, nowMs })).toBe(false);
      });
    }
  });
});

describe('parseManufacturerCertificates()', () => {
  test('reads several certificates of one text', () => {
    const both = parseManufacturerCertificates({
      roots: `comment\n${root}\n${intermediate}`,
      intermediates: '',
    });
    expect(both.roots.length).toBe(2);
    expect(createPublicKey(root).asymmetricKeyType).toBe('rsa');
  });

  test('refuses what is not a certificate, or not an authority', () => {
    const garbage = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    for (const roots of [garbage, vectors.ekCertificates.rsa2048])
      expect(reasonOf(() => parseManufacturerCertificates({ ...none, roots }))).toBe(
        'manufacturer_certificate_invalid',
      );
  });
});
