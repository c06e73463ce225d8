import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildCsr, generateP256Key } from '../../agent/identity/key-pair.ts';
import { verifyPolicySignature } from '../../shared/spiffe/policy-signer.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { verifyX509Svid } from '../../shared/spiffe/x509-svid.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import { runOk } from '../../tests/kit/child.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { x509 } from '../../tests/kit/test-authority.ts';
import { createTestCa, type TestCa } from '../../tests/kit/test-ca.ts';
import type { LeafRequest } from './ca.ts';
import { readCsr } from './csr.ts';

const WEB = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
const DAY_MS = 86_400_000;

let folder: string;
let clock: FakeClock;
let ca: TestCa;
let publicKeySpki: Uint8Array;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-ca-'));
  clock = new FakeClock();
  ca = await createTestCa({ folder: join(folder, 'online'), clock });
  publicKeySpki = readCsr(buildCsr(await generateP256Key())).publicKeySpki;
});
afterAll(() => rmSync(folder, { recursive: true }));

const issue = async (change: Partial<Pick<LeafRequest, 'ttlSeconds' | 'dnsNames' | 'ipAddresses'>> = {}) =>
  await ca.authority.issue({ spiffeId: WEB, publicKeySpki, ttlSeconds: 3600, dnsNames: [], ...change });
const bundles = () => new Map([[ca.authority.bundle.current.trustDomain, ca.authority.bundle.current]]);

describe('OnlineAuthority.issue()', () => {
  test('makes a leaf that our own verification, OpenSSL and @peculiar/x509 accept', async () => {
    const issued = await issue({ dnsNames: ['web.shop.example.org'] });
    expect(verifyX509Svid(issued.chain, bundles(), clock.nowMs()).spiffeId).toBe(WEB);
    const path = (name: string): string => join(folder, name);
    writeFileSync(path('root.pem'), ca.root.certificatePem);
    writeFileSync(path('leaf.pem'), encodePem('CERTIFICATE', issued.chain[0]!));
    writeFileSync(path('intermediate.pem'), encodePem('CERTIFICATE', issued.chain[1]!));
    const now = String(Math.floor(clock.nowMs() / 1000));
    const verified = await runOk([
      'openssl',
      'verify',
      '-x509_strict',
      '-attime',
      now,
      '-purpose',
      'sslclient',
      '-CAfile',
      path('root.pem'),
      '-untrusted',
      path('intermediate.pem'),
      path('leaf.pem'),
    ]);
    expect(verified).toContain('OK');
    const chain = await new x509.X509ChainBuilder({
      certificates: [
        new x509.X509Certificate(Buffer.from(issued.chain[1]!)),
        new x509.X509Certificate(ca.root.certificatePem),
      ],
    }).build(new x509.X509Certificate(Buffer.from(issued.chain[0]!)));
    expect(chain).toHaveLength(3);
  });

  test('follows the profile of X509-SVID.md: one URI, critical usage, no authority, five minutes of grace', async () => {
    const issued = await issue({ dnsNames: ['web.example.org'], ipAddresses: ['192.0.2.7', '2001:db8::7'] });
    const leaf = new x509.X509Certificate(Buffer.from(issued.chain[0]!));
    const names = leaf.getExtension(x509.SubjectAlternativeNameExtension);
    expect(names?.critical).toBe(true);
    expect(names?.names.toJSON()).toEqual([
      { type: 'url', value: WEB },
      { type: 'dns', value: 'web.example.org' },
      { type: 'ip', value: '192.0.2.7' },
      { type: 'ip', value: '2001:db8::7' },
    ]);
    expect(leaf.getExtension(x509.BasicConstraintsExtension)?.ca).toBe(false);
    expect(leaf.getExtension(x509.KeyUsagesExtension)).toMatchObject({
      critical: true,
      usages: x509.KeyUsageFlags.digitalSignature,
    });
    expect(leaf.getExtension(x509.ExtendedKeyUsageExtension)?.usages).toEqual([
      x509.ExtendedKeyUsage.serverAuth,
      x509.ExtendedKeyUsage.clientAuth,
    ]);
    expect(leaf.subject).toBe('');
    expect(leaf.notBefore.getTime()).toBe(clock.nowMs() - 300_000);
    expect(leaf.notAfter.getTime()).toBe(clock.nowMs() + 3_600_000);
    expect(leaf.serialNumber).toBe(issued.serial);
    expect(Buffer.from(leaf.publicKey.rawData)).toEqual(Buffer.from(publicKeySpki));
    const keyId = leaf.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId;
    const issuer = new x509.X509Certificate(Buffer.from(issued.chain[1]!));
    expect(keyId).toBe(issuer.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId as string);
  });

  test('never gives two leaves one serial', async () => {
    const serials = new Set<string>();
    for (let i = 0; i < 200; i++) serials.add((await issue()).serial);
    expect(serials.size).toBe(200);
  });

  test('lets no leaf outlive the intermediate', async () => {
    const issued = await issue({ ttlSeconds: 40 * 365 * 86_400 });
    expect(issued.notAfterMs).toBe(ca.authority.intermediateNotAfterMs);
  });

  test('refuses a key that is not acceptable', async () => {
    const request = { spiffeId: WEB, ttlSeconds: 60, dnsNames: [] };
    for (const key of [new Uint8Array(0), publicKeySpki.slice(0, -1), new Uint8Array(91).fill(0x30)])
      expect((await refusalOf(ca.authority.issue({ ...request, publicKeySpki: key }))).reason).toBe(
        'public_key_refused',
      );
  });

  test('refuses another trust domain, and the names that authorities keep for themselves', async () => {
    for (const id of [
      'spiffe://example.com/ns/shop/sa/web',
      'spiffe://sub.example.org/web',
      'spiffe://example.org',
      'spiffe://example.org/picket/policy-signer',
      'spiffe://example.org/picket/unknown',
    ]) {
      const request = { spiffeId: parseSpiffeId(id), publicKeySpki, ttlSeconds: 60, dnsNames: [] };
      expect((await refusalOf(ca.authority.issue(request))).reason).toBe('spiffe_id_refused');
    }
  });

  test('takes a life that is none for a mistake of the caller', async () => {
    for (const ttlSeconds of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(await issue({ ttlSeconds }).catch((error: unknown) => error)).toBeInstanceOf(RangeError);
  });

  test('refuses once the intermediate has ended', async () => {
    const later = new FakeClock();
    const short = await createTestCa({
      folder: join(folder, 'short'),
      clock: later,
      lives: { intermediateSeconds: 86_400 },
    });
    later.advance(2 * DAY_MS);
    const request = { spiffeId: WEB, publicKeySpki, ttlSeconds: 60, dnsNames: [] };
    expect((await refusalOf(short.authority.issue(request))).reason).toBe('intermediate_expired');
  });
});

describe('OnlineAuthority.signPolicy()', () => {
  const sign = async (statement = '{"target":"mesh"}') => {
    const { signature, chain } = await ca.authority.signPolicy(Buffer.from(statement));
    const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
    return { statement, signature: base64(signature), chain: chain.map(base64) };
  };
  const verifyAgain = (signed: Awaited<ReturnType<typeof sign>>, nowMs = clock.nowMs()) =>
    reasonOf(() => verifyPolicySignature(signed, ca.authority.bundle.current, nowMs));

  test('makes a signature that verifyPolicySignature() accepts', async () => {
    expect(verifyAgain(await sign())).toBeUndefined();
  });

  test('refuses once the policy certificate has ended', async () => {
    const later = new FakeClock();
    const short = await createTestCa({
      folder: join(folder, 'short-policy'),
      clock: later,
      lives: { policySeconds: 86_400 },
    });
    later.advance(2 * DAY_MS);
    expect((await refusalOf(short.authority.signPolicy(Buffer.from('{}')))).reason).toBe(
      'policy_signer_expired',
    );
  });

  test('verifyPolicySignature() refuses another statement, another signature and none', async () => {
    const signed = await sign();
    expect(verifyAgain({ ...signed, statement: `${signed.statement} ` })).toBe('policy_signature_invalid');
    expect(verifyAgain({ ...signed, signature: (await sign('other')).signature })).toBe(
      'policy_signature_invalid',
    );
    expect(verifyAgain({ ...signed, signature: '' })).toBe('policy_signature_invalid');
  });

  test('verifyPolicySignature() refuses a policy that a workload or the online authority signed', async () => {
    const key = await generateP256Key();
    const { chain } = await ca.authority.issue({
      spiffeId: WEB,
      publicKeySpki: key.publicKeySpki,
      ttlSeconds: 60,
      dnsNames: [],
    });
    const base64 = chain.map((der) => Buffer.from(der).toString('base64'));
    const signed = await sign();
    expect(verifyAgain({ ...signed, chain: base64 })).toBe('chain_length_refused');
    expect(verifyAgain({ ...signed, chain: base64.slice(0, 1) })).toBe('certificate_untrusted');
    expect(verifyAgain({ ...signed, chain: base64.slice(1) })).toBe('leaf_profile_invalid');
  });

  test('verifyPolicySignature() refuses another trust domain’s root, and a certificate that has ended', async () => {
    const other = await createTestCa({ folder: join(folder, 'other'), clock });
    const signed = await sign();
    expect(reasonOf(() => verifyPolicySignature(signed, other.authority.bundle.current, clock.nowMs()))).toBe(
      'certificate_untrusted',
    );
    expect(verifyAgain(signed, clock.nowMs() + 4 * 365 * DAY_MS)).toBe('certificate_expired');
  });

  test('the policy certificate is nobody’s SVID', async () => {
    const { chain } = await sign();
    const der = chain.map((text) => new Uint8Array(Buffer.from(text, 'base64')));
    expect(reasonOf(() => verifyX509Svid(der, bundles(), clock.nowMs()))).toBe('leaf_profile_invalid');
  });
});

test('the root names its trust domain and allows one intermediate', () => {
  const root = new X509Certificate(ca.root.certificatePem);
  expect(root.subjectAltName).toBe('URI:spiffe://example.org');
  const constraints = new x509.X509Certificate(ca.root.certificatePem).getExtension(
    x509.BasicConstraintsExtension,
  );
  expect(constraints).toMatchObject({ ca: true, pathLength: 1 });
});
