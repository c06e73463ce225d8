import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  type TpmChallenge,
  tpmChallengeResponse,
  type TpmPayload,
  tpmPayload,
} from '../../shared/protocol/attestation.ts';
import { computeQualifyingData } from '../../shared/protocol/tpm-binding.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { parseTpmQuote } from '../../shared/wire/tpm2-attest.ts';
import { makeTpmCredential } from '../../shared/wire/tpm2-credential.ts';
import { computeTpmName, parseTpmPublic } from '../../shared/wire/tpm2-public.ts';
import { isTpmSignatureValid, parseTpmSignature } from '../../shared/wire/tpm2-signature.ts';
import { AK_TEMPLATES } from '../../shared/wire/tpm2-templates.ts';
import { runOk } from '../../tests/kit/child.ts';
import {
  createSwtpmManufacturer,
  startSwtpm,
  type Swtpm,
  type SwtpmManufacturer,
} from '../../tests/kit/swtpm.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { describeNodeProver } from './contract.ts';
import { computeEkHash } from './endorsement-key.ts';
import { openTpmDevice } from './open-tpm-device.ts';
import { NO_PASSWORD, TpmClient } from './tpm-client.ts';
import { TpmProver, type TpmProverOptions } from './tpm.ts';

// Each test speaks to a TPM, and some start one.
setDefaultTimeout(60_000);

const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));
const random = (length: number) => new Uint8Array(randomBytes(length));
const context = { csrPublicKeySpki: random(91), serverCertificateSha256: random(32) };

let manufacturer: SwtpmManufacturer;
let certified: Swtpm;
let bare: Swtpm;

beforeAll(async () => {
  manufacturer = await createSwtpmManufacturer();
  certified = await startSwtpm({ manufacturer });
  bare = await startSwtpm();
});
afterAll(async () => {
  await Promise.all([certified.stop(), bare.stop()]);
  await manufacturer.remove();
});

describeNodeProver('TPM', async () => {
  const tpm = await startSwtpm();
  return { prover: proverOf(tpm, { ek: 'ecc' }), dispose: tpm.stop };
});

describe('TpmProver', () => {
  const cases = [
    { ek: 'rsa', ak: 'ecc', on: 'certified', key: 'rsa', hash: 'sha256' },
    { ek: 'rsa', ak: 'rsa', on: 'bare', key: 'rsa', hash: 'sha256' },
    { ek: 'ecc', ak: 'ecc', on: 'certified', key: 'ecc', hash: 'sha384' },
    { ek: 'ecc', ak: 'rsa', on: 'bare', key: 'ecc', hash: 'sha256' },
    { ek: 'auto', ak: 'ecc', on: 'certified', key: 'rsa', hash: 'sha256' },
  ] as const;
  for (const { ek, ak, on, key, hash } of cases)
    test(`answers a challenge with ek ${ek} and ak ${ak} on a ${on} TPM, and leaves nothing loaded`, async () => {
      const tpm = on === 'certified' ? certified : bare;
      const prover = proverOf(tpm, { ek, ak });
      const payload = tpmPayload.parse(await prover.payload());
      const endorsementKey = parseTpmPublic(bytes(payload.ekPublic));
      expect(endorsementKey.key.kind).toBe(key);
      expect(endorsementKey.nameAlgorithm).toBe(hash);
      expect(payload.ekCertificate !== undefined).toBe(on === 'certified');

      const { challenge, secret } = challengeFor(payload, { pcrs: [23, 0, 10] });
      const response = tpmChallengeResponse.parse(await prover.respond(challenge, context));
      expect(Buffer.from(bytes(response.secret)).equals(secret)).toBe(true);
      expect(response.pcrValues).toEqual(['0'.repeat(64), '0'.repeat(64), '0'.repeat(64)]);
      const quote = parseTpmQuote(bytes(response.quote));
      const qualifyingData = computeQualifyingData({ ...context, nonce: bytes(challenge.nonce) });
      expect(Buffer.from(quote.extraData).equals(qualifyingData)).toBe(true);
      const signature = parseTpmSignature(bytes(response.signature));
      const area = parseTpmPublic(bytes(payload.akPublic));
      expect(isTpmSignatureValid(area, { message: bytes(response.quote), signature })).toBe(true);
      expect(await loadedHandles(tpm)).toEqual([]);
    });

  test('has the same keys after every start, and identity() tells their hash', async () => {
    const [first, second] = [proverOf(bare, { ek: 'rsa' }), proverOf(bare, { ek: 'rsa' })];
    const payload = await first.payload();
    await first.close();
    expect(await second.payload()).toEqual(payload);
    await second.close();
    const { ekHash, ekCertificate } = await proverOf(bare, { ek: 'rsa' }).identity();
    expect(ekHash).toBe(computeEkHash(bytes(payload.ekPublic)));
    expect(ekHash).toMatch(/^[0-9a-f]{64}$/);
    expect(ekCertificate).toBeUndefined();
    expect(await loadedHandles(bare)).toEqual([]);
  });

  test('makes the endorsement keys that tpm2-tools make, on a character device', async () => {
    const device = await startSwtpm({ transport: 'character-device' });
    try {
      for (const ek of ['rsa', 'ecc'] as const) {
        const prover = proverOf(device, { ek });
        const { ekPublic } = await prover.payload();
        await prover.close();
        const [context, area] = [`${device.path}.${ek}.ctx`, `${device.path}.${ek}.pub`];
        await runOk(['tpm2_createek', '-G', ek, '-c', context, '-u', area], {
          env: { TPM2TOOLS_TCTI: `device:${device.path}` },
        });
        await runOk(['tpm2_flushcontext', '-t'], { env: { TPM2TOOLS_TCTI: `device:${device.path}` } });
        // TPM2B_PUBLIC: the area with its size in front.
        const file = Buffer.from(await Bun.file(area).arrayBuffer());
        expect(file.subarray(2).toString('base64')).toBe(ekPublic);
      }
    } finally {
      await device.stop();
    }
  });

  test('answers one challenge only', async () => {
    const prover = proverOf(bare, { ek: 'ecc' });
    const { challenge } = challengeFor(await prover.payload(), { pcrs: [0] });
    await prover.respond(challenge, context);
    expect((await refusalOf(prover.respond(challenge, context))).reason).toBe('challenge_unexpected');
  });

  test("does not release the secret of another machine's challenge, and leaves nothing loaded", async () => {
    for (const ek of ['rsa', 'ecc'] as const) {
      const other = proverOf(certified, { ek });
      const { challenge } = challengeFor(await other.payload(), { pcrs: [0] });
      await other.close();
      const prover = proverOf(bare, { ek });
      await prover.payload();
      expect(await refusalOf(prover.respond(challenge, context))).toMatchObject({
        code: 'failed_precondition',
        reason: 'tpm_refused',
      });
      expect(await loadedHandles(bare)).toEqual([]);
    }
  });

  test('refuses a nonce of another length and leaves nothing loaded', async () => {
    const prover = proverOf(bare, { ek: 'ecc' });
    const { challenge } = challengeFor(await prover.payload(), { pcrs: [0] });
    const short = { ...challenge, nonce: Buffer.alloc(31).toString('base64') };
    expect(await refusalOf(prover.respond(short, context))).toMatchObject({ reason: 'challenge_invalid' });
    expect(await loadedHandles(bare)).toEqual([]);
  });

  test('flushes what a killed program left in a TPM without a resource manager', async () => {
    const device = await openTpmDevice(bare.address);
    const client = new TpmClient(device, systemClock);
    for (let slot = 0; slot < 3; slot++) await client.createPrimary(AK_TEMPLATES.ecc, NO_PASSWORD);
    expect(await refusalOf(client.createPrimary(AK_TEMPLATES.ecc, NO_PASSWORD))).toMatchObject({
      code: 'unavailable',
      reason: 'tpm_refused',
      details: { responseCode: 0x902 },
    });
    await client.startEndorsementSession({ hash: 'sha256', nonce: random(16), endorsement: NO_PASSWORD });
    await device.close();

    const prover = proverOf(bare, { ek: 'ecc' });
    await prover.payload();
    await prover.close();
    expect(await loadedHandles(bare)).toEqual([]);
  });

  test('says what the TPM refused when the endorsement password is wrong', async () => {
    const prover = proverOf(bare, { ek: 'ecc', endorsementPassword: Buffer.from('wrong') });
    const { reason, message } = await refusalOf(prover.payload());
    expect(reason).toBe('tpm_refused');
    expect(message).toContain('createPrimary: TPM_RC_BAD_AUTH for session 1');
  });
});

function proverOf(
  tpm: Swtpm,
  options: Pick<TpmProverOptions, 'ek' | 'ak' | 'endorsementPassword'>,
): TpmProver {
  return new TpmProver({ address: tpm.address, random, clock: systemClock, ...options });
}

function challengeFor(
  payload: TpmPayload,
  { pcrs }: { readonly pcrs: number[] },
): { readonly challenge: TpmChallenge; readonly secret: Uint8Array } {
  const secret = random(32);
  const credential = makeTpmCredential(parseTpmPublic(bytes(payload.ekPublic)), {
    objectName: computeTpmName(bytes(payload.akPublic)),
    secret,
    random,
  });
  const challenge = {
    type: 'tpm' as const,
    credentialBlob: Buffer.from(credential.credentialBlob).toString('base64'),
    encryptedSecret: Buffer.from(credential.encryptedSecret).toString('base64'),
    nonce: Buffer.from(random(32)).toString('base64'),
    pcrs,
  };
  return { challenge, secret };
}

async function loadedHandles(tpm: Swtpm): Promise<readonly number[]> {
  const device = await openTpmDevice(tpm.address);
  const client = new TpmClient(device, systemClock);
  const handles = [...(await client.listHandles(0x8000_0000)), ...(await client.listHandles(0x0200_0000))];
  await device.close();
  return handles;
}
