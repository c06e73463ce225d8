import { beforeAll, describe, expect, test } from 'bun:test';
import { createPrivateKey, sign, webcrypto } from 'node:crypto';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  authorityProfile,
  leafProfile,
  makeCertificate,
  TEST_NOW_MS,
  USAGE,
  x509,
  type TestCertificate,
  type TestProfile,
} from '../../tests/kit/test-authority.ts';
import type { SignedPolicy } from '../protocol/policy-statement.ts';
import { verifyPolicySignature } from './policy-signer.ts';
import type { TrustBundle } from './trust-bundle.ts';
import { parseTrustDomain } from './trust-domain.ts';

const STATEMENT = '{"target":"mesh"}';

/** A certificate that stands every check. */
const SIGNER: TestProfile = {
  subject: 'O=example.org, CN=policy signer',
  uris: ['spiffe://example.org/picket/policy-signer'],
  isAuthority: false,
  keyUsage: [USAGE.digitalSignature],
  purposes: [x509.ExtendedKeyUsage.codeSigning],
};

let root: TestCertificate;
let bundle: TrustBundle;
beforeAll(async () => {
  root = await makeCertificate(authorityProfile('example.org'));
  bundle = bundleOf('example.org', root);
});

describe('verifyPolicySignature()', () => {
  test('accepts the policy signer that the root made', async () => {
    expect(verdict(await signedBy(await makeCertificate(SIGNER, root)))).toBeUndefined();
  });

  test('refuses a policy signer that an intermediate made, with its chain and without', async () => {
    const intermediate = await makeCertificate(
      { ...authorityProfile('example.org'), subject: 'CN=intermediate', pathLength: 0 },
      root,
    );
    const signed = await signedBy(await makeCertificate(SIGNER, intermediate));
    expect(verdict(signed)).toBe('certificate_untrusted');
    const chain = [...signed.chain, base64(intermediate.der)];
    expect(verdict({ ...signed, chain })).toBe('chain_length_refused');
    expect(verdict({ ...signed, chain: [] })).toBe('chain_length_refused');
  });

  test.each<[string, TestProfile]>([
    ['a workload’s SVID', leafProfile('spiffe://example.org/ns/shop/sa/web')],
    ['an SVID of the policy signer’s name', leafProfile('spiffe://example.org/picket/policy-signer')],
    ['the server’s name', { ...SIGNER, uris: ['spiffe://example.org/picket/server'] }],
    ['another trust domain’s name', { ...SIGNER, uris: ['spiffe://example.com/picket/policy-signer'] }],
    ['two names', { ...SIGNER, uris: [...SIGNER.uris!, 'spiffe://example.org/web'] }],
    ['no name', { ...SIGNER, uris: [] }],
    ['an authority', { ...SIGNER, isAuthority: true, keyUsage: [USAGE.digitalSignature, USAGE.keyCertSign] }],
    ['a key that may not sign', { ...SIGNER, keyUsage: [USAGE.keyAgreement] }],
    ['a certificate of unlimited use', { ...SIGNER, keyUsage: undefined }],
    ['no purpose', { ...SIGNER, purposes: [] }],
    [
      'a purpose beside TLS',
      { ...SIGNER, purposes: [...SIGNER.purposes!, x509.ExtendedKeyUsage.clientAuth] },
    ],
    [
      'a purpose beside TLS',
      { ...SIGNER, purposes: [...SIGNER.purposes!, x509.ExtendedKeyUsage.serverAuth] },
    ],
  ])('refuses %s, though the root made it', async (_name, profile) => {
    const { purposes, ...others } = profile;
    const made = await makeCertificate(purposes?.length === 0 ? others : profile, root);
    expect(verdict(await signedBy(made))).toBe('leaf_profile_invalid');
  });

  test('refuses a signer that made its own certificate, and one of another root', async () => {
    expect(verdict(await signedBy(await makeCertificate(SIGNER)))).toBe('certificate_untrusted');
    const other = await makeCertificate(authorityProfile('example.org'));
    expect(verdict(await signedBy(await makeCertificate(SIGNER, other)))).toBe('certificate_untrusted');
    const foreign = await makeCertificate(authorityProfile('example.com'));
    const signed = await signedBy(await makeCertificate(SIGNER, foreign));
    expect(reasonOf(() => verifyPolicySignature(signed, bundleOf('example.org', foreign), TEST_NOW_MS))).toBe(
      'authority_invalid',
    );
  });

  test('refuses before and after the life of the certificate, and a time that is none', async () => {
    const signed = await signedBy(await makeCertificate(SIGNER, root));
    expect(verdict(signed, TEST_NOW_MS - 2 * 86_400_000)).toBe('certificate_not_yet_valid');
    expect(verdict(signed, TEST_NOW_MS + 2 * 86_400_000)).toBe('certificate_expired');
    expect(verdict(signed, Number.NaN)).toBe('certificate_expired');
  });

  test('refuses a signature of another key, over other bytes, changed in any byte, or garbage', async () => {
    const signer = await makeCertificate(SIGNER, root);
    const signed = await signedBy(signer);
    const other = await signedBy(await makeCertificate(SIGNER, root));
    const signature = Buffer.from(signed.signature, 'base64');
    const wrong = [
      other.signature,
      '',
      'AA==',
      base64(signature.subarray(1)),
      base64(Buffer.alloc(72, 0xff)),
    ];
    for (let at = 0; at < signature.length; at++) {
      const changed = Buffer.from(signature);
      changed[at] = (changed[at] ?? 0) ^ 1;
      wrong.push(base64(changed));
    }
    for (const text of wrong)
      expect(verdict({ ...signed, signature: text })).toBe('policy_signature_invalid');
    for (const statement of ['', ` ${STATEMENT}`, STATEMENT.slice(0, -1), '\uD800'])
      expect(verdict({ ...signed, statement })).toBe('policy_signature_invalid');
  });

  test('refuses a certificate that cannot be read', async () => {
    const signed = await signedBy(await makeCertificate(SIGNER, root));
    for (const chain of [[''], ['AAAA'], [signed.chain[0]!.slice(0, 100)]])
      expect(verdict({ ...signed, chain })).toBe('certificate_malformed');
  });
});

function verdict(signed: SignedPolicy, nowMs = TEST_NOW_MS): string | undefined {
  return reasonOf(() => verifyPolicySignature(signed, bundle, nowMs));
}

async function signedBy({ der, keys }: TestCertificate): Promise<SignedPolicy> {
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  const signature = sign('sha256', Buffer.from(STATEMENT), key);
  return { statement: STATEMENT, signature: base64(signature), chain: [base64(der)] };
}

function bundleOf(trustDomain: string, authority: TestCertificate): TrustBundle {
  return {
    trustDomain: parseTrustDomain(trustDomain),
    sequence: 1,
    refreshHintSeconds: 300,
    x509Authorities: [authority.der],
  };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
