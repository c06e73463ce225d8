import { beforeAll, describe, expect, test } from 'bun:test';
import { X509Certificate } from 'node:crypto';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  authorityProfile,
  leafProfile,
  makeCertificate,
  x509,
  type TestCertificate,
} from '../../tests/kit/test-authority.ts';
import { MAX_CERTIFICATE_BYTES, parseX509Certificate } from './x509-certificate.ts';

const ID = 'spiffe://one.test/invoices';
const MALFORMED = ['der_invalid', 'truncated', 'trailing_bytes'];

let root: TestCertificate;
let leaf: TestCertificate;

beforeAll(async () => {
  root = await makeCertificate({ ...authorityProfile('one.test'), pathLength: 3 });
  leaf = await makeCertificate({ ...leafProfile(ID), dnsNames: ['a.test', 'b.test'] }, root);
});

async function withExtension(extension: x509.Extension): Promise<string | undefined> {
  const { der } = await makeCertificate({ subject: 'CN=a', otherExtensions: [extension] });
  return reasonOf(() => parseX509Certificate(der));
}

describe('parseX509Certificate()', () => {
  test('agrees with node:crypto and @peculiar/x509 on every field', () => {
    for (const made of [root, leaf]) {
      const parsed = parseX509Certificate(made.der);
      const node = new X509Certificate(made.der);
      expect(parsed.serial).toBe(node.serialNumber.toLowerCase());
      expect(parsed.notBeforeMs).toBe(Date.parse(node.validFrom));
      expect(parsed.notAfterMs).toBe(Date.parse(node.validTo));
      expect(Buffer.from(parsed.publicKeySpki)).toEqual(
        node.publicKey.export({ format: 'der', type: 'spki' }),
      );
      expect(parsed.subject).toEqual(new Uint8Array(made.certificate.subjectName.toArrayBuffer()));
      expect(parsed.issuer).toEqual(new Uint8Array(made.certificate.issuerName.toArrayBuffer()));
      expect(parsed.signature).toEqual(new Uint8Array(made.certificate.signature));
      expect(parsed.signatureAlgorithm).toEqual({ identifier: '1.2.840.10045.4.3.2', parameters: undefined });
    }
  });

  test('reads the extensions of an authority and of a leaf', () => {
    expect(parseX509Certificate(root.der).extensions).toEqual({
      basicConstraints: { isAuthority: true, pathLength: 3 },
      keyUsage: { isCritical: true, bits: new Set([5, 6]) },
      extendedKeyUsage: undefined,
      subjectAlternativeName: { isCritical: false, uris: ['spiffe://one.test'], dnsNames: [] },
      subjectKeyIdentifier: undefined,
      nameConstraints: undefined,
      notUnderstood: [],
    });
    expect(parseX509Certificate(leaf.der).extensions).toMatchObject({
      basicConstraints: { isAuthority: false, pathLength: undefined },
      extendedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
      subjectAlternativeName: { uris: [ID], dnsNames: ['a.test', 'b.test'] },
    });
  });

  test('names critical extensions that it does not understand, and name constraints in any case', async () => {
    const { der } = await makeCertificate({
      otherExtensions: [
        new x509.Extension('1.2.3', true, Uint8Array.of(5, 0)),
        new x509.Extension('1.2.4', false, Uint8Array.of(5, 0)),
        new x509.Extension('2.5.29.30', false, Uint8Array.of(0x30, 0)),
      ],
    });
    expect(parseX509Certificate(der).extensions.notUnderstood).toEqual(['1.2.3', '2.5.29.30']);
  });

  test('refuses extensions that are malformed or stand twice', async () => {
    const extension = (identifier: string, hex: string): x509.Extension =>
      new x509.Extension(identifier, true, Buffer.from(hex, 'hex'));
    const refused = [
      extension('2.5.29.19', '30060101ff0201ff'),
      extension('2.5.29.19', '3003020100'),
      extension('2.5.29.19', '30000500'),
      extension('2.5.29.15', '0500'),
      extension('2.5.29.37', '3000'),
      extension('2.5.29.17', '3000'),
      extension('2.5.29.17', '3003860100'),
      extension('2.5.29.17', '3003a60161'),
      extension('2.5.29.17', '3003890161'),
      extension('2.5.29.17', '30038601e9'),
      extension('2.5.29.14', '0500'),
    ];
    for (const malformed of refused) expect(await withExtension(malformed)).toBeOneOf(MALFORMED);
    const { der } = await makeCertificate({
      otherExtensions: [extension('1.2.3', '0500'), extension('1.2.3', '0500')],
    });
    expect(reasonOf(() => parseX509Certificate(der))).toBe('der_invalid');
  });

  test('reads a certificate without extensions', async () => {
    const { der } = await makeCertificate({});
    expect(parseX509Certificate(der).extensions.basicConstraints).toBeUndefined();
  });

  test('survives every change of one byte to each of three values, whatever comes out', () => {
    for (let offset = 0; offset < leaf.der.length; offset++)
      for (const change of [0x01, 0x80, 0xff]) {
        const altered = Uint8Array.from(leaf.der);
        altered[offset] = (altered[offset] ?? 0) ^ change;
        expect(reasonOf(() => parseX509Certificate(altered))).toBeOneOf([undefined, ...MALFORMED]);
      }
  });

  test('refuses cut-off certificates and those beyond the limit', () => {
    for (let length = 0; length < leaf.der.length; length++)
      expect(reasonOf(() => parseX509Certificate(leaf.der.subarray(0, length)))).toBeOneOf(MALFORMED);
    expect(reasonOf(() => parseX509Certificate(new Uint8Array(MAX_CERTIFICATE_BYTES + 1)))).toBe(
      'der_invalid',
    );
  });
});
