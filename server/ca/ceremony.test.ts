import { beforeAll, describe, expect, test } from 'bun:test';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { runOk } from '../../tests/kit/child.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { x509 } from '../../tests/kit/test-authority.ts';
import {
  createOnlineMaterial,
  createRoot,
  DEFAULT_LIVES,
  type Lives,
  type RootAuthority,
} from './ceremony.ts';

const TRUST_DOMAIN = parseTrustDomain('example.org');
const NOW_MS = Date.parse('2026-11-24T10:00:00.500Z');
const DAY_MS = 86_400_000;

let root: RootAuthority;
beforeAll(async () => {
  root = await createRoot(TRUST_DOMAIN, { nowMs: NOW_MS, lifeSeconds: DEFAULT_LIVES.rootSeconds });
});

const sign = async (
  change: {
    readonly root?: RootAuthority;
    readonly trustDomain?: string;
    readonly nowMs?: number;
    readonly lives?: Partial<Lives>;
  } = {},
) =>
  await createOnlineMaterial(change.root ?? root, {
    trustDomain: parseTrustDomain(change.trustDomain ?? 'example.org'),
    nowMs: change.nowMs ?? NOW_MS,
    lives: { ...DEFAULT_LIVES, ...change.lives },
  });

describe('createRoot()', () => {
  test('makes an authority on P-384 that names its trust domain and allows one authority below it', () => {
    const certificate = new x509.X509Certificate(root.certificatePem);
    expect(certificate.publicKey.algorithm).toMatchObject({ name: 'ECDSA', namedCurve: 'P-384' });
    expect(certificate.getExtension(x509.BasicConstraintsExtension)).toMatchObject({
      ca: true,
      pathLength: 1,
      critical: true,
    });
    expect(certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.toJSON()).toEqual([
      { type: 'url', value: 'spiffe://example.org' },
    ]);
    expect(certificate.notBefore.toISOString()).toBe('2026-11-24T09:55:00.000Z');
    expect(certificate.notAfter.getTime()).toBe(
      Math.floor(NOW_MS / 1000) * 1000 + DEFAULT_LIVES.rootSeconds * 1000,
    );
  });

  test('gives each root a name of its own, so that an old and a new one can stand in one bundle', async () => {
    const other = await createRoot(TRUST_DOMAIN, { nowMs: NOW_MS, lifeSeconds: 86_400 });
    const subject = (pem: string): string => new x509.X509Certificate(pem).subject;
    expect(subject(other.certificatePem)).not.toBe(subject(root.certificatePem));
  });
});

describe('createOnlineMaterial()', () => {
  test('signs an intermediate that allows no authority below it, and that OpenSSL verifies', async () => {
    const { intermediatePem } = await sign();
    const certificate = new x509.X509Certificate(intermediatePem);
    expect(certificate.getExtension(x509.BasicConstraintsExtension)).toMatchObject({
      ca: true,
      pathLength: 0,
    });
    expect(certificate.getExtension(x509.KeyUsagesExtension)).toMatchObject({
      critical: true,
      usages: x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
    });
    await verifyByOpenSsl(intermediatePem);
  });

  test('signs a policy certificate that is made for nothing but signing code', async () => {
    const { policyPem } = await sign();
    const certificate = new x509.X509Certificate(policyPem);
    expect(certificate.getExtension(x509.BasicConstraintsExtension)?.ca).toBe(false);
    expect(certificate.getExtension(x509.ExtendedKeyUsageExtension)).toMatchObject({
      critical: true,
      usages: [x509.ExtendedKeyUsage.codeSigning],
    });
    expect(certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.toJSON()).toEqual([
      { type: 'url', value: 'spiffe://example.org/picket/policy-signer' },
    ]);
    await verifyByOpenSsl(policyPem);
  });

  test('makes new keys each time, and lets nothing outlive the root', async () => {
    const lives = { intermediateSeconds: 100 * 365 * 86_400, policySeconds: 100 * 365 * 86_400 };
    const [first, second] = [await sign({ lives }), await sign()];
    expect(first.intermediateKeyPkcs8).not.toEqual(second.intermediateKeyPkcs8);
    expect(first.policyKeyPkcs8).not.toEqual(second.policyKeyPkcs8);
    const endOf = (pem: string): number => new x509.X509Certificate(pem).notAfter.getTime();
    expect([first.intermediatePem, first.policyPem].map(endOf)).toEqual([
      endOf(root.certificatePem),
      endOf(root.certificatePem),
    ]);
  });

  test('refuses a key of another root, another trust domain, and a root that has ended', async () => {
    const other = await createRoot(TRUST_DOMAIN, { nowMs: NOW_MS, lifeSeconds: 86_400 });
    const mixed = { ...root, privateKeyPkcs8: other.privateKeyPkcs8 };
    expect((await refusalOf(sign({ root: mixed }))).reason).toBe('root_key_mismatch');
    expect((await refusalOf(sign({ trustDomain: 'example.com' }))).reason).toBe('root_foreign');
    expect((await refusalOf(sign({ root: other, nowMs: NOW_MS + 2 * DAY_MS }))).reason).toBe('root_expired');
  });

  test('refuses an intermediate in the place of the root, and a key that is not on P-384', async () => {
    const { intermediatePem, intermediateKeyPkcs8, policyPem, policyKeyPkcs8 } = await sign();
    for (const [certificatePem, privateKeyPkcs8] of [
      [intermediatePem, intermediateKeyPkcs8],
      [policyPem, policyKeyPkcs8],
      [
        root.certificatePem,
        new Uint8Array(generateKeyPairSync('ed25519').privateKey.export({ format: 'der', type: 'pkcs8' })),
      ],
    ] as const)
      expect((await refusalOf(sign({ root: { certificatePem, privateKeyPkcs8 } }))).reason).toBe(
        'root_key_refused',
      );
  });
});

async function verifyByOpenSsl(pem: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'picket-ceremony-'));
  try {
    const [rootFile, file] = [join(folder, 'root.pem'), join(folder, 'certificate.pem')];
    writeFileSync(rootFile, root.certificatePem);
    writeFileSync(file, pem);
    const at = ['-attime', String(Math.floor(NOW_MS / 1000))];
    expect(await runOk(['openssl', 'verify', '-x509_strict', ...at, '-CAfile', rootFile, file])).toContain(
      'OK',
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}
