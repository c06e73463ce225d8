import { beforeAll, describe, expect, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  authorityProfile,
  leafProfile,
  makeCertificate,
  makeKeys,
  TEST_NOW_MS,
  USAGE,
  x509,
  type TestCertificate,
  type TestProfile,
} from '../../tests/kit/test-authority.ts';
import type { TrustBundle, TrustBundles } from './trust-bundle.ts';
import { parseTrustDomain } from './trust-domain.ts';
import { readLeafIdentity, verifyX509Svid } from './x509-svid.ts';

const ID = 'spiffe://one.test/ns/billing/invoices';
const HOUR_MS = 3_600_000;

let rootOne: TestCertificate;
let rootTwo: TestCertificate;
let intermediate: TestCertificate;
let leaf: TestCertificate;
let bundles: TrustBundles;

beforeAll(async () => {
  rootOne = await makeCertificate({ ...authorityProfile('one.test'), subject: 'O=one, CN=root' });
  rootTwo = await makeCertificate({ ...authorityProfile('two.test'), subject: 'O=two, CN=root' });
  intermediate = await makeCertificate(
    { ...authorityProfile('one.test'), subject: 'O=one, CN=intermediate', pathLength: 0 },
    rootOne,
  );
  leaf = await makeCertificate(leafProfile(ID), intermediate);
  bundles = bundlesOf({ 'one.test': [rootOne], 'two.test': [rootTwo] });
});

function bundlesOf(roots: Readonly<Record<string, readonly TestCertificate[]>>): TrustBundles {
  const entries = Object.entries(roots).map(([name, authorities]): TrustBundle => ({
    trustDomain: parseTrustDomain(name),
    sequence: 1,
    refreshHintSeconds: 300,
    x509Authorities: authorities.map((authority) => authority.der),
  }));
  return new Map(entries.map((bundle) => [bundle.trustDomain, bundle]));
}

function refusal(
  chain: readonly TestCertificate[],
  nowMs = TEST_NOW_MS,
  trusted = bundles,
): string | undefined {
  return reasonOf(() =>
    verifyX509Svid(
      chain.map((certificate) => certificate.der),
      trusted,
      nowMs,
    ),
  );
}

async function leafRefusal(profile: Partial<TestProfile>): Promise<string | undefined> {
  const changed = await makeCertificate({ ...leafProfile(ID), ...profile }, intermediate);
  const reason = refusal([changed, intermediate]);
  expect(reasonOf(() => readLeafIdentity(changed.der))).toBe(reason);
  return reason;
}

async function intermediateRefusal(
  profile: Partial<TestProfile>,
  nowMs = TEST_NOW_MS,
): Promise<string | undefined> {
  const changed = await makeCertificate(
    { ...authorityProfile('one.test'), subject: 'O=one, CN=other', ...profile },
    rootOne,
  );
  return refusal([await makeCertificate(leafProfile(ID), changed), changed], nowMs);
}

describe('verifyX509Svid()', () => {
  test('accepts a leaf under an intermediate and tells who it is', () => {
    const verified = verifyX509Svid([leaf.der, intermediate.der], bundles, TEST_NOW_MS);
    expect(verified).toEqual({
      spiffeId: ID as typeof verified.spiffeId,
      trustDomain: parseTrustDomain('one.test'),
      serial: leaf.certificate.serialNumber,
      pathNotBeforeMs: leaf.certificate.notBefore.getTime(),
      notBeforeMs: leaf.certificate.notBefore.getTime(),
      notAfterMs: leaf.certificate.notAfter.getTime(),
      fingerprintSha256: createHash('sha256').update(leaf.der).digest('hex'),
    });
  });

  test('accepts a leaf that the root signed itself, one with DNS names, and a chain that ends with the root', async () => {
    const direct = await makeCertificate(leafProfile(ID), rootOne);
    expect(refusal([direct])).toBeUndefined();
    expect(refusal([leaf, intermediate, rootOne])).toBeUndefined();
    expect(await leafRefusal({ dnsNames: ['invoices.one.test'] })).toBeUndefined();
    expect(await leafRefusal({ isAuthority: undefined })).toBeUndefined();
  });

  test('says that trust ends when the first certificate of the path does', async () => {
    const soon = TEST_NOW_MS + HOUR_MS;
    const short = await makeCertificate(
      { ...authorityProfile('one.test'), subject: 'O=one, CN=short', notAfterMs: soon },
      rootOne,
    );
    const under = await makeCertificate(leafProfile(ID), short);
    const verified = verifyX509Svid([under.der, short.der], bundles, TEST_NOW_MS);
    expect(verified.notAfterMs).toBe(soon);
    expect(readLeafIdentity(under.der).notAfterMs).toBeGreaterThan(soon);
  });

  test('refuses no chain and more than four certificates', () => {
    expect(refusal([])).toBe('chain_length_refused');
    expect(refusal([leaf, intermediate, rootOne, rootOne, rootOne])).toBe('chain_length_refused');
    expect(refusal(Array.from({ length: 10_000 }, () => leaf))).toBe('chain_length_refused');
  });

  test('takes trust from the bundle of the trust domain in the leaf only', async () => {
    const foreign = await makeCertificate(leafProfile('spiffe://two.test/invoices'), intermediate);
    expect(refusal([foreign, intermediate])).toBe('authority_invalid');
    const nameless = await makeCertificate({ ...authorityProfile('one.test'), uris: [] }, rootOne);
    const under = await makeCertificate(leafProfile('spiffe://two.test/invoices'), nameless);
    expect(refusal([under, nameless])).toBe('certificate_untrusted');
    const unknown = await makeCertificate(leafProfile('spiffe://three.test/invoices'), intermediate);
    expect(refusal([unknown, intermediate])).toBe('trust_domain_unknown');
  });

  test('takes trust from the certificate that carries the identity, not from another one in the chain', async () => {
    const attacker = await makeCertificate({
      ...authorityProfile('one.test'),
      subject: 'O=one, CN=intermediate',
    });
    const forged = await makeCertificate(leafProfile('spiffe://one.test/admin'), attacker);
    expect(refusal([forged, leaf, intermediate])).toBe('certificate_untrusted');
    expect(refusal([forged, intermediate])).toBe('certificate_untrusted');
    expect(refusal([forged, attacker])).toBe('certificate_untrusted');
    expect(refusal([forged, attacker, intermediate, rootOne])).toBe('certificate_untrusted');
  });

  test('refuses an intermediate that is missing or in another place', async () => {
    expect(refusal([leaf])).toBe('certificate_untrusted');
    expect(refusal([leaf, rootOne, intermediate])).toBe('certificate_untrusted');
  });

  test('refuses everything under an empty bundle', () => {
    expect(refusal([leaf, intermediate], TEST_NOW_MS, bundlesOf({ 'one.test': [] }))).toBe(
      'certificate_untrusted',
    );
  });

  test('refuses a bundle that is filed under the name of another trust domain', () => {
    const two = bundlesOf({ 'one.test': [rootOne] }).get(parseTrustDomain('one.test'))!;
    const misfiled = new Map([
      [parseTrustDomain('one.test'), { ...two, trustDomain: parseTrustDomain('two.test') }],
    ]);
    expect(refusal([leaf, intermediate], TEST_NOW_MS, misfiled)).toBe('trust_domain_unknown');
  });

  test('refuses a leaf without exactly one SPIFFE ID of a workload', async () => {
    expect(await leafRefusal({ uris: [ID, 'spiffe://one.test/admin'] })).toBe('spiffe_id_invalid');
    expect(await leafRefusal({ uris: [ID, ID] })).toBe('spiffe_id_invalid');
    expect(await leafRefusal({ uris: [ID, 'https://one.test/'] })).toBe('spiffe_id_invalid');
    expect(await leafRefusal({ uris: [] })).toBe('spiffe_id_invalid');
    expect(await leafRefusal({ uris: [], dnsNames: ['one.test'] })).toBe('spiffe_id_invalid');
    expect(await leafRefusal({ uris: ['https://one.test/invoices'] })).toBe('spiffe_id_invalid');
    expect(await leafRefusal({ uris: ['spiffe://one.test/invoices/'] })).toBe('spiffe_id_invalid');
    expect(await leafRefusal({ uris: ['spiffe://one.test'] })).toBe('spiffe_id_invalid');
  });

  test('does not let a DNS name that is spelled like a URI count as one', async () => {
    expect(await leafRefusal({ uris: [], dnsNames: [`a, URI:${ID}`] })).toBe('spiffe_id_invalid');
    expect(await leafRefusal({ dnsNames: ['a, URI:spiffe://one.test/admin'] })).toBeUndefined();
  });

  test('refuses an authority as a peer, whatever its name', async () => {
    expect(await leafRefusal({ isAuthority: true })).toBe('leaf_profile_invalid');
    expect(refusal([intermediate, rootOne])).toBe('leaf_profile_invalid');
    expect(refusal([rootOne])).toBe('leaf_profile_invalid');
  });

  test('refuses every key usage that is not for a leaf', async () => {
    expect(await leafRefusal({ keyUsage: undefined })).toBe('leaf_profile_invalid');
    expect(await leafRefusal({ isKeyUsageCritical: false })).toBe('leaf_profile_invalid');
    expect(await leafRefusal({ keyUsage: [USAGE.keyEncipherment] })).toBe('leaf_profile_invalid');
    for (const extra of [USAGE.keyCertSign, USAGE.cRLSign])
      expect(await leafRefusal({ keyUsage: [USAGE.digitalSignature, extra] })).toBe('leaf_profile_invalid');
    const allowed = [USAGE.digitalSignature, USAGE.keyEncipherment, USAGE.keyAgreement];
    expect(await leafRefusal({ keyUsage: allowed })).toBeUndefined();
  });

  test('refuses an extended key usage that leaves one side of TLS out', async () => {
    expect(await leafRefusal({ purposes: [x509.ExtendedKeyUsage.serverAuth] })).toBe('leaf_profile_invalid');
    expect(await leafRefusal({ purposes: [x509.ExtendedKeyUsage.codeSigning] })).toBe('leaf_profile_invalid');
  });

  test('refuses an empty subject unless the alternative name is critical', async () => {
    expect(await leafRefusal({ subject: '' })).toBe('leaf_profile_invalid');
    expect(await leafRefusal({ subject: '', isNamesCritical: true })).toBeUndefined();
  });

  test('refuses a leaf and an authority with restrictions that it does not understand', async () => {
    const restriction = new x509.Extension('2.5.29.36', true, Uint8Array.of(0x30, 0));
    const nameConstraints = new x509.Extension('2.5.29.30', false, Uint8Array.of(0x30, 0));
    const harmless = new x509.Extension('1.2.3.4', false, Uint8Array.of(0x30, 0));
    for (const extension of [restriction, nameConstraints]) {
      expect(await intermediateRefusal({ otherExtensions: [extension] })).toBe('extension_not_understood');
      const restricted = await makeCertificate(
        { ...leafProfile(ID), otherExtensions: [extension] },
        intermediate,
      );
      expect(refusal([restricted, intermediate])).toBe('extension_not_understood');
    }
    expect(await leafRefusal({ otherExtensions: [harmless] })).toBeUndefined();
  });

  test('checks the validity of the leaf to the second', () => {
    const begin = leaf.certificate.notBefore.getTime();
    const end = leaf.certificate.notAfter.getTime();
    const chain = [leaf, intermediate];
    expect(refusal(chain, begin - 1)).toBe('certificate_not_yet_valid');
    expect(refusal(chain, begin)).toBeUndefined();
    expect(refusal(chain, end + 999)).toBeUndefined();
    expect(refusal(chain, end + 1000)).toBe('certificate_expired');
    expect(refusal(chain, Number.NaN)).toBe('certificate_expired');
  });

  test('checks the validity of every authority on the path', async () => {
    const ended = TEST_NOW_MS - 1000;
    expect(await intermediateRefusal({ notAfterMs: ended })).toBe('certificate_expired');
    expect(await intermediateRefusal({ notBeforeMs: TEST_NOW_MS + 1 * HOUR_MS })).toBe(
      'certificate_not_yet_valid',
    );
    const oldRoot = await makeCertificate({ ...authorityProfile('one.test'), notAfterMs: ended });
    const under = await makeCertificate(leafProfile(ID), oldRoot);
    expect(refusal([under], TEST_NOW_MS, bundlesOf({ 'one.test': [oldRoot] }))).toBe('certificate_expired');
  });

  test('of two roots with one key takes the one that is still valid', async () => {
    const keys = await makeKeys();
    const profile = { ...authorityProfile('one.test'), keys };
    const renewed = await makeCertificate(profile);
    const ended = await makeCertificate({ ...profile, notAfterMs: TEST_NOW_MS - 1000 });
    const under = await makeCertificate(leafProfile(ID), renewed);
    expect(refusal([under], TEST_NOW_MS, bundlesOf({ 'one.test': [ended, renewed] }))).toBeUndefined();
    expect(refusal([under], TEST_NOW_MS, bundlesOf({ 'one.test': [ended] }))).toBe('certificate_expired');
  });

  test('refuses an intermediate that is not an authority', async () => {
    expect(await intermediateRefusal({ isAuthority: false })).toBe('authority_invalid');
    expect(await intermediateRefusal({ isAuthority: undefined })).toBe('authority_invalid');
    expect(await intermediateRefusal({ keyUsage: [USAGE.digitalSignature] })).toBe('authority_invalid');
    expect(await intermediateRefusal({ keyUsage: undefined })).toBe('authority_invalid');
    expect(await intermediateRefusal({})).toBeUndefined();
  });

  test('refuses a workload that signs for another', async () => {
    const forged = await makeCertificate(leafProfile('spiffe://one.test/admin'), leaf);
    expect(refusal([forged, leaf, intermediate])).toBe('authority_invalid');
  });

  test('refuses an authority whose SPIFFE ID is not that of its trust domain', async () => {
    for (const uri of ['spiffe://two.test', 'spiffe://one.test/ca', 'https://one.test'])
      expect(await intermediateRefusal({ uris: [uri] })).toBe('authority_invalid');
    expect(await intermediateRefusal({ uris: [] })).toBeUndefined();
  });

  test('respects the path length of every authority', async () => {
    const below = await makeCertificate(
      { ...authorityProfile('one.test'), subject: 'O=one, CN=below' },
      intermediate,
    );
    const under = await makeCertificate(leafProfile(ID), below);
    expect(refusal([under, below, intermediate])).toBe('path_length_exceeded');
    const wide = await makeCertificate(
      { ...authorityProfile('one.test'), subject: 'O=one, CN=wide', pathLength: 1 },
      rootOne,
    );
    const second = await makeCertificate({ ...authorityProfile('one.test'), subject: 'O=one, CN=2' }, wide);
    const deep = await makeCertificate(leafProfile(ID), second);
    expect(refusal([deep, second, wide])).toBeUndefined();
  });

  test('refuses every certificate with one byte changed', () => {
    for (let offset = 0; offset < leaf.der.length; offset++) {
      const altered = Uint8Array.from(leaf.der);
      altered[offset] = (altered[offset] ?? 0) ^ 0x01;
      const reason = reasonOf(() => verifyX509Svid([altered, intermediate.der], bundles, TEST_NOW_MS));
      expect(reason).toBeDefined();
    }
  });

  test('refuses garbage, cut-off certificates and certificates with something behind them', () => {
    const inputs = [
      new Uint8Array(0),
      Buffer.from('garbage'),
      new Uint8Array(100_000),
      Buffer.concat([leaf.der, Uint8Array.of(0)]),
      Buffer.concat([leaf.der, leaf.der]),
    ];
    for (let length = 1; length < leaf.der.length; length++)
      inputs.push(Buffer.from(leaf.der.subarray(0, length)));
    for (const input of inputs) {
      expect(reasonOf(() => verifyX509Svid([input, intermediate.der], bundles, TEST_NOW_MS))).toBe(
        'certificate_malformed',
      );
      expect(reasonOf(() => verifyX509Svid([leaf.der, input], bundles, TEST_NOW_MS))).toBe(
        'certificate_malformed',
      );
    }
  });
});
