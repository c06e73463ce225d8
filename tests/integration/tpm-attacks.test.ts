import { generateKeyPairSync, sign } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { computeEkHash } from '../../agent/node-attestation/endorsement-key.ts';
import { openTpmDevice } from '../../agent/node-attestation/open-tpm-device.ts';
import { NO_PASSWORD, TpmClient } from '../../agent/node-attestation/tpm-client.ts';
import type { TpmChallenge, TpmChallengeResponse, TpmPayload } from '../../shared/protocol/attestation.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { ByteWriter } from '../../shared/wire/byte-writer.ts';
import { buildTpmPublic, parseTpmPublic, TPM_OBJECT, type TpmPublic } from '../../shared/wire/tpm2-public.ts';
import { AK_TEMPLATES, EK_TEMPLATES } from '../../shared/wire/tpm2-templates.ts';
import { refusalOf } from '../kit/refusal-of.ts';
import {
  beginAttestation,
  type ChallengeStep,
  proverOf,
  random,
  RIG_CONTEXT,
  TpmRig,
} from '../kit/tpm-rig.ts';

const ZEROS = '0'.repeat(64);
const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));
const base64 = (value: Uint8Array) => Buffer.from(value).toString('base64');

// Each test speaks to a TPM, and some start one.
setDefaultTimeout(60_000);

let rig: TpmRig;
beforeAll(async () => {
  rig = await TpmRig.open();
});
afterAll(() => rig.close());

describe('TpmAttestor under attack', () => {
  /** One honest exchange up to the answer, which a test then spoils. */
  async function exchange(): Promise<{
    readonly step: ChallengeStep;
    readonly response: TpmChallengeResponse;
  }> {
    const prover = proverOf(rig.host);
    await rig.approve(prover);
    const step = await beginAttestation(rig.attestor(), await prover.payload());
    return { step, response: await prover.respond(step.challenge, RIG_CONTEXT) };
  }

  /** What the prover answers when it is given another challenge or RIG_CONTEXT than the server meant. */
  async function answerWith(
    change: (challenge: TpmChallenge) => TpmChallenge,
    otherContext: Partial<typeof RIG_CONTEXT> = {},
  ): Promise<string> {
    const prover = proverOf(rig.host);
    await rig.approve(prover);
    const step = await beginAttestation(rig.attestor(), await prover.payload());
    const response = await prover.respond(change(step.challenge), { ...RIG_CONTEXT, ...otherContext });
    return (await refusalOf(step.respond(response))).reason;
  }

  test('refuses an answer that was given to an earlier challenge, whole or with the new secret', async () => {
    const earlier = await exchange();
    const { step, response } = await exchange();
    expect((await refusalOf(step.respond(earlier.response))).reason).toBe('secret_wrong');
    const mixed = { ...earlier.response, secret: response.secret };
    expect((await refusalOf(step.respond(mixed))).reason).toBe('quote_not_bound');
    expect((await step.respond(response)).canReattest).toBe(true);
  });

  test('refuses a quote for another nonce', async () => {
    expect(await answerWith((challenge) => ({ ...challenge, nonce: base64(random(32)) }))).toBe(
      'quote_not_bound',
    );
  });

  test('refuses a quote for another key in the certificate request', async () => {
    expect(await answerWith((challenge) => challenge, { csrPublicKeySpki: random(91) })).toBe(
      'quote_not_bound',
    );
  });

  test("refuses a quote for another server's certificate: the challenge was relayed", async () => {
    expect(await answerWith((challenge) => challenge, { serverCertificateSha256: random(32) })).toBe(
      'quote_not_bound',
    );
  });

  test('refuses a quote over fewer, more or other PCRs', async () => {
    for (const pcrs of [
      [0, 7],
      [0, 7, 22, 23],
      [1, 7, 23],
    ])
      expect(await answerWith((challenge) => ({ ...challenge, pcrs }))).toBe('quote_pcrs_wrong');
  });

  test('refuses a wrong secret, shorter and longer ones', async () => {
    for (const secret of [random(32), random(31), random(33), new Uint8Array(0)]) {
      const { step, response } = await exchange();
      const refusal = await refusalOf(step.respond({ ...response, secret: base64(secret) }));
      expect(refusal).toMatchObject({ code: 'permission_denied', reason: 'secret_wrong' });
    }
  });

  test('refuses an altered quote, signature or value', async () => {
    const flipLast = (text: string) => {
      const altered = bytes(text);
      altered.set([(altered.at(-1) ?? 0) ^ 1], altered.length - 1);
      return base64(altered);
    };
    const { step, response } = await exchange();
    const altered: readonly [TpmChallengeResponse, string][] = [
      [{ ...response, quote: flipLast(response.quote) }, 'quote_signature_invalid'],
      [{ ...response, signature: flipLast(response.signature) }, 'quote_signature_invalid'],
      [{ ...response, pcrValues: ['1'.repeat(64), ZEROS, ZEROS] }, 'quote_values_wrong'],
      [{ ...response, quote: response.quote.slice(0, 40) }, 'quote_signature_invalid'],
      [{ ...response, signature: '' }, 'truncated'],
    ];
    for (const [answer, reason] of altered)
      expect((await refusalOf(step.respond(answer))).reason).toBe(reason);
  });

  test("refuses another machine's endorsement key: this TPM does not release the secret", async () => {
    const victim = proverOf(rig.otherHost);
    await rig.approve(victim);
    const victimPayload = await victim.payload();
    await victim.close();
    const attacker = proverOf(rig.host);
    const own = await attacker.payload();
    const step = await beginAttestation(rig.attestor(), { ...victimPayload, akPublic: own.akPublic });
    const refusal = await refusalOf(attacker.respond(step.challenge, RIG_CONTEXT));
    expect(refusal).toMatchObject({ code: 'failed_precondition', reason: 'tpm_refused' });
  });

  test("refuses another machine's attestation key: the approved TPM does not release the secret for it", async () => {
    const prover = proverOf(rig.host);
    await rig.approve(prover);
    const other = proverOf(rig.otherHost);
    const { akPublic } = await other.payload();
    await other.close();
    const step = await beginAttestation(rig.attestor(), { ...(await prover.payload()), akPublic });
    expect((await refusalOf(prover.respond(step.challenge, RIG_CONTEXT))).reason).toBe('tpm_refused');
  });

  test('refuses attestation keys that the same TPM made, but that would sign anything or could leave it', async () => {
    await rig.approve(proverOf(rig.host));
    const template = AK_TEMPLATES.ecc;
    const unrestricted = { ...template, attributes: template.attributes & ~TPM_OBJECT.restricted };
    const exportable = {
      ...template,
      attributes: template.attributes & ~TPM_OBJECT.fixedTpm & ~TPM_OBJECT.fixedParent,
    };
    for (const area of [unrestricted, exportable]) {
      const payload = await payloadWithKey(area);
      expect((await refusalOf(rig.attestor().begin(payload, RIG_CONTEXT))).reason).toBe('ak_unsuitable');
    }
  });

  test('refuses a key that claims to be restricted and is not: the TPM does not release the secret for it', async () => {
    const template = AK_TEMPLATES.ecc;
    const attributes = template.attributes & ~TPM_OBJECT.restricted;
    const device = await openTpmDevice(rig.host.address);
    try {
      const client = new TpmClient(device, systemClock);
      const endorsementKey = await client.createPrimary(EK_TEMPLATES.eccP384.area, NO_PASSWORD);
      const key = await client.createPrimary({ ...template, attributes }, NO_PASSWORD);
      await rig.hosts.approve({ ekHash: computeEkHash(endorsementKey.publicArea), decidedBy: 'me' });
      const lie = buildTpmPublic({ ...parseTpmPublic(key.publicArea), attributes: template.attributes });
      const ekPublic = base64(endorsementKey.publicArea);
      const step = await beginAttestation(rig.attestor(), { type: 'tpm', ekPublic, akPublic: base64(lie) });
      const activation = client.activateCredential(
        { attestationKey: key.handle, endorsementKey: endorsementKey.handle },
        {
          credentialBlob: bytes(step.challenge.credentialBlob),
          encryptedSecret: bytes(step.challenge.encryptedSecret),
          endorsementKeyAuthorization: NO_PASSWORD,
        },
      );
      expect((await refusalOf(activation)).message).toContain('TPM_RC_INTEGRITY');
      await client.flush(key.handle);
      await client.flush(endorsementKey.handle);
    } finally {
      await device.close();
    }
  });

  test('refuses a quote that another key than the activated one signed', async () => {
    const { step, response } = await exchange();
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const raw = sign('sha256', bytes(response.quote), { key: privateKey, dsaEncoding: 'ieee-p1363' });
    const [r, s] = [raw.subarray(0, 32), raw.subarray(32)];
    // TPMT_SIGNATURE: ECDSA, SHA-256, r and s.
    const signature = new ByteWriter().u16(0x0018).u16(0x000b).u16(32).bytes(r).u16(32).bytes(s).toBytes();
    const answer = { ...response, signature: base64(signature) };
    expect((await refusalOf(step.respond(answer))).reason).toBe('quote_signature_invalid');
  });
});

/** The first message of a host that uses an attestation key by another template. */
async function payloadWithKey(template: TpmPublic): Promise<TpmPayload> {
  const device = await openTpmDevice(rig.host.address);
  try {
    const client = new TpmClient(device, systemClock);
    const endorsementKey = await client.createPrimary(EK_TEMPLATES.rsa2048.area, NO_PASSWORD);
    const key = await client.createPrimary(template, NO_PASSWORD);
    await client.flush(key.handle);
    await client.flush(endorsementKey.handle);
    expect(computeEkHash(endorsementKey.publicArea)).toMatch(/^[0-9a-f]{64}$/);
    return { type: 'tpm', ekPublic: base64(endorsementKey.publicArea), akPublic: base64(key.publicArea) };
  } finally {
    await device.close();
  }
}
