import { beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  authorityProfile,
  leafProfile,
  makeCertificate,
  TEST_NOW_MS,
  type TestCertificate,
} from '../../tests/kit/test-authority.ts';
import { parseSpiffeId } from './spiffe-id.ts';
import { SvidVerifier } from './svid-verifier.ts';
import type { TrustBundle, TrustBundles } from './trust-bundle.ts';
import { parseTrustDomain } from './trust-domain.ts';

const ID = 'spiffe://one.test/web';
const HOUR_MS = 3_600_000;

let root: TestCertificate;
let other: TestCertificate;
let chain: readonly Uint8Array[];
let trust: TrustBundles;
let verifier: SvidVerifier;

beforeAll(async () => {
  root = await makeCertificate({ ...authorityProfile('one.test'), subject: 'O=one, CN=root' });
  other = await makeCertificate({ ...authorityProfile('one.test'), subject: 'O=one, CN=other' });
  const intermediate = await makeCertificate(
    {
      ...authorityProfile('one.test'),
      subject: 'O=one, CN=intermediate',
      notBeforeMs: TEST_NOW_MS - 2 * HOUR_MS,
      notAfterMs: TEST_NOW_MS + 2 * HOUR_MS,
    },
    root,
  );
  const leaf = await makeCertificate(leafProfile(ID), intermediate);
  chain = [leaf.der, intermediate.der];
  trust = bundlesOf(root);
});

beforeEach(() => {
  verifier = new SvidVerifier();
});

function bundlesOf(authority: TestCertificate): TrustBundles {
  const trustDomain = parseTrustDomain('one.test');
  const bundle: TrustBundle = {
    trustDomain,
    sequence: 1,
    refreshHintSeconds: 300,
    x509Authorities: [authority.der],
  };
  return new Map([[trustDomain, bundle]]);
}

const refusal = (shown = chain, nowMs = TEST_NOW_MS, trusted = trust): string | undefined =>
  reasonOf(() => verifier.verify(shown, trusted, nowMs));

describe('SvidVerifier', () => {
  test('a leaf that is known is not verified again, whatever stands beside it', () => {
    const first = verifier.verify(chain, trust, TEST_NOW_MS);
    expect(first.svid.spiffeId).toBe(parseSpiffeId(ID));
    const copies = chain.map((der) => der.slice());
    expect(verifier.verify(copies, trust, TEST_NOW_MS + 1)).toBe(first);
    expect(verifier.verify(copies.slice(0, 1), trust, TEST_NOW_MS)).toBe(first);
    expect(verifier.recall(copies[0] ?? new Uint8Array(), trust, TEST_NOW_MS)).toBe(first);
  });

  test('a leaf that is not known is not recalled', () => {
    expect(verifier.recall(chain[0] ?? new Uint8Array(), trust, TEST_NOW_MS)).toBeUndefined();
    expect(refusal(chain.slice(0, 1))).toBe('certificate_untrusted');
  });

  test('a chain that is known is refused when any certificate of it has ended or not begun', () => {
    expect(refusal()).toBeUndefined();
    // The intermediate's life is the shorter one.
    expect(refusal(chain, TEST_NOW_MS + 3 * HOUR_MS)).toBe('certificate_expired');
    expect(refusal()).toBeUndefined();
    expect(refusal(chain, TEST_NOW_MS - 3 * HOUR_MS)).toBe('certificate_not_yet_valid');
    expect(refusal(chain, Number.NaN)).toBe('certificate_expired');
  });

  test('a chain that is known is refused under a bundle without its root, or without a bundle', () => {
    expect(refusal()).toBeUndefined();
    expect(refusal(chain, TEST_NOW_MS, bundlesOf(other))).toBe('certificate_untrusted');
    expect(refusal()).toBeUndefined();
    expect(refusal(chain, TEST_NOW_MS, new Map())).toBe('trust_domain_unknown');
  });

  test('a leaf that differs by a byte is another one', () => {
    expect(refusal()).toBeUndefined();
    const [leaf = new Uint8Array(), intermediate = new Uint8Array()] = chain;
    const altered = leaf.slice();
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    expect(refusal([altered, intermediate])).toBe('certificate_untrusted');
    expect(refusal([intermediate, leaf])).toBe('leaf_profile_invalid');
    expect(refusal([Buffer.concat([leaf, intermediate])])).toBe('certificate_malformed');
  });

  test('a refusal is not remembered', () => {
    expect(refusal(chain, TEST_NOW_MS, bundlesOf(other))).toBe('certificate_untrusted');
    expect(refusal()).toBeUndefined();
  });
});
