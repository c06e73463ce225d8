import { randomBytes, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type TpmPayload, tpmChallenge } from '../../shared/protocol/attestation.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { buildTpmPublic, parseTpmPublic, TPM_OBJECT, type TpmPublic } from '../../shared/wire/tpm2-public.ts';
import { openTestPglite, type TestDatastore } from '../../tests/kit/datastore.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import vectors from '../../tests/vectors/tpm2.json';
import { TpmHosts } from '../agents/tpm-hosts.ts';
import { parseManufacturerCertificates } from './ek-certificate.ts';
import { DEFAULT_PCRS } from './default-pcrs.ts';
import { TpmAttestor, type TpmAttestorOptions } from './tpm.ts';
import { requireAttestationKey, requireEndorsementKey } from './tpm-keys.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const random = (length: number) => new Uint8Array(randomBytes(length));
const noManufacturers = { roots: [], intermediates: [] };
const manufacturers = parseManufacturerCertificates({
  roots: vectors.manufacturer.root,
  intermediates: vectors.manufacturer.intermediate,
});
const context = { csrPublicKeySpki: random(91), serverCertificateSha256: random(32) };
const rsaCertificate = base64(new X509Certificate(vectors.ekCertificates.rsa2048).raw);
const eccCertificate = base64(new X509Certificate(vectors.ekCertificates.eccP384).raw);

const payload: TpmPayload = {
  type: 'tpm',
  ekPublic: base64(hex(vectors.endorsementKeys.rsa2048)),
  akPublic: base64(hex(vectors.attestationKeys.ecc.public)),
};
const { hash: ekHash } = requireEndorsementKey(hex(vectors.endorsementKeys.rsa2048));

let kept: TestDatastore;
let hosts: TpmHosts;
beforeAll(async () => {
  kept = await openTestPglite();
  hosts = new TpmHosts(kept.datastore);
});
afterAll(() => kept.dispose());

function attestorOf(options: Partial<TpmAttestorOptions> = {}): TpmAttestor {
  return new TpmAttestor({
    hosts,
    random,
    clock: systemClock,
    pcrs: DEFAULT_PCRS,
    manufacturers: noManufacturers,
    isEkCertificateRequired: false,
    ...options,
  });
}

describe('TpmAttestor.begin()', () => {
  test('notes a stranger and says which hash an operator must approve', async () => {
    const refusal = await refusalOf(attestorOf().begin(payload, context));
    expect(refusal).toMatchObject({ code: 'permission_denied', reason: 'ek_not_approved' });
    expect(refusal.message).toContain(ekHash);
    expect(await hosts.find(ekHash)).toMatchObject({ state: 'pending', hasTrustedCertificate: false });
  });

  test('notes that the certificate of a stranger is trusted', async () => {
    const attestor = attestorOf({ manufacturers });
    await refusalOf(attestor.begin({ ...payload, ekCertificate: rsaCertificate }, context));
    expect(await hosts.find(ekHash)).toMatchObject({ state: 'pending', hasTrustedCertificate: true });
  });

  test('challenges an approved host over the configured PCRs and those with expected values', async () => {
    const expectedPcrs = { '14': ['0'.repeat(64)], '7': ['0'.repeat(64)] };
    await hosts.approve({ ekHash, decidedBy: 'me', expectedPcrs });
    const step = await attestorOf({ pcrs: [2, 7] }).begin(payload, context);
    if (step.kind !== 'challenge') throw new Error('a TPM is challenged');
    expect(step.subject).toBe(ekHash);
    expect(tpmChallenge.parse(step.challenge).pcrs).toEqual([2, 7, 14]);
    expect(Buffer.from(step.challenge.nonce, 'base64').length).toBe(32);
  });

  test('never uses a nonce or a secret twice', async () => {
    const challenges = [];
    for (let n = 0; n < 3; n++) {
      const step = await attestorOf().begin(payload, context);
      if (step.kind === 'challenge') challenges.push(step.challenge);
    }
    expect(new Set(challenges.map(({ nonce }) => nonce)).size).toBe(3);
    expect(new Set(challenges.map(({ credentialBlob }) => credentialBlob)).size).toBe(3);
  });

  test('refuses a host that an operator denied, with a trusted certificate or without', async () => {
    await hosts.deny({ ekHash, decidedBy: 'me' });
    const attestor = attestorOf({ manufacturers });
    for (const sent of [payload, { ...payload, ekCertificate: rsaCertificate }])
      expect(await refusalOf(attestor.begin(sent, context))).toMatchObject({
        code: 'permission_denied',
        reason: 'ek_denied',
      });
    await hosts.approve({ ekHash, decidedBy: 'me' });
  });

  test('refuses a certificate of another key, though it is trusted', async () => {
    const sent = { ...payload, ekCertificate: eccCertificate };
    const refusal = await refusalOf(attestorOf({ manufacturers }).begin(sent, context));
    expect(refusal).toMatchObject({ code: 'permission_denied', reason: 'ek_certificate_mismatch' });
  });

  test('refuses an approved host without a trusted certificate where one is required', async () => {
    const attestor = attestorOf({ manufacturers, isEkCertificateRequired: true });
    const untrusting = attestorOf({
      isEkCertificateRequired: true,
      manufacturers: { ...manufacturers, intermediates: [] },
    });
    const sent = { ...payload, ekCertificate: rsaCertificate };
    for (const work of [attestor.begin(payload, context), untrusting.begin(sent, context)])
      expect(await refusalOf(work)).toMatchObject({ reason: 'ek_certificate_untrusted' });
    expect((await attestor.begin(sent, context)).kind).toBe('challenge');
  });

  test('fails only with errors of ours on payloads that are not structures of a TPM', async () => {
    for (const field of ['ekPublic', 'akPublic'] as const)
      for (const text of [
        '',
        'AA',
        base64(random(100)),
        payload[field].slice(0, 100),
        `AAAA${payload[field]}`,
      ])
        expect((await refusalOf(attestorOf().begin({ ...payload, [field]: text }, context))).code).toBe(
          'invalid_argument',
        );
  });
});

describe('new TpmAttestor()', () => {
  test('refuses options that contradict each other', () => {
    const contradictions: Partial<TpmAttestorOptions>[] = [
      { pcrs: [] },
      { pcrs: [24] },
      { pcrs: [-1] },
      { pcrs: [0.5] },
      { isEkCertificateRequired: true, manufacturers: noManufacturers },
    ];
    for (const options of contradictions)
      expect(reasonOf(() => attestorOf(options))).toBe('tpm_config_invalid');
  });
});

/** All of the bits that a key must have or must not have, one wrong at a time. */
function withFlipped(area: TpmPublic, bit: number): Uint8Array {
  return buildTpmPublic({ ...area, attributes: area.attributes ^ bit });
}

describe('requireAttestationKey()', () => {
  const areas = [vectors.attestationKeys.ecc.public, vectors.attestationKeys.rsa.public].map(hex);

  test('accepts restricted signing keys of a TPM', () => {
    for (const area of areas) expect(requireAttestationKey(area).name.length).toBe(34);
  });

  const bits = ['fixedTpm', 'fixedParent', 'sensitiveDataOrigin', 'restricted', 'sign', 'decrypt'] as const;
  for (const bit of bits)
    test(`refuses a key whose attribute ${bit} is not as it should be`, () => {
      for (const area of areas) {
        const flipped = withFlipped(parseTpmPublic(area), TPM_OBJECT[bit]);
        expect(reasonOf(() => requireAttestationKey(flipped))).toBe('ak_unsuitable');
      }
    });

  test('refuses endorsement keys, keys without a scheme and other curves', () => {
    const area = parseTpmPublic(areas[0]!);
    const p384 = parseTpmPublic(hex(vectors.endorsementKeys.eccP384));
    const unsuitable = [
      hex(vectors.endorsementKeys.rsa2048),
      buildTpmPublic({ ...area, signingHash: null }),
      buildTpmPublic({ ...area, symmetricBits: 128 }),
      buildTpmPublic({ ...area, key: p384.key }),
    ];
    for (const bytes of unsuitable)
      expect(reasonOf(() => requireAttestationKey(bytes))).toBe('ak_unsuitable');
  });
});

describe('requireEndorsementKey()', () => {
  const areas = Object.values(vectors.endorsementKeys).map(hex);

  test('accepts keys by the default templates and tells them apart by their hash', () => {
    const hashes = areas.map((area) => requireEndorsementKey(area).hash);
    expect(new Set(hashes).size).toBe(3);
    for (const hash of hashes) expect(hash).toMatch(/^[0-9a-f]{64}$/);
  });

  const bits = ['fixedTpm', 'fixedParent', 'sensitiveDataOrigin', 'restricted', 'sign', 'decrypt'] as const;
  for (const bit of bits)
    test(`refuses a key whose attribute ${bit} is not as it should be`, () => {
      for (const area of areas) {
        const flipped = withFlipped(parseTpmPublic(area), TPM_OBJECT[bit]);
        expect(reasonOf(() => requireEndorsementKey(flipped))).toBe('ek_unsuitable');
      }
    });

  test('refuses attestation keys and a weaker symmetric key than that of the template', () => {
    const strong = parseTpmPublic(hex(vectors.endorsementKeys.eccP384));
    const unsuitable = [
      hex(vectors.attestationKeys.rsa.public),
      buildTpmPublic({ ...strong, symmetricBits: 128 }),
      buildTpmPublic({ ...strong, symmetricBits: null }),
    ];
    for (const bytes of unsuitable)
      expect(reasonOf(() => requireEndorsementKey(bytes))).toBe('ek_unsuitable');
  });
});
