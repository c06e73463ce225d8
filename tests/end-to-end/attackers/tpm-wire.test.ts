import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildCsr, generateP256Key, type KeyPair } from '../../../agent/identity/key-pair.ts';
import { computeEkHash } from '../../../agent/node-attestation/endorsement-key.ts';
import { openTpmDevice } from '../../../agent/node-attestation/open-tpm-device.ts';
import { NO_PASSWORD, TpmClient } from '../../../agent/node-attestation/tpm-client.ts';
import type { TpmProver } from '../../../agent/node-attestation/tpm.ts';
import {
  attestAnswer,
  type AttestRequest,
  type TpmChallenge,
  type TpmChallengeResponse,
  type TpmPayload,
} from '../../../shared/protocol/attestation.ts';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { TPM_OBJECT } from '../../../shared/wire/tpm2-public.ts';
import { AK_TEMPLATES, EK_TEMPLATES } from '../../../shared/wire/tpm2-templates.ts';
import { createMesh, type Mesh } from '../../kit/mesh.ts';
import { refusalOf } from '../../kit/refusal-of.ts';
import { startSwtpm, type Swtpm } from '../../kit/swtpm.ts';
import { proverOf, random } from '../../kit/tpm-rig.ts';
import { AgentPort, base64 } from './agent-port.ts';

/** Hosts with a TPM that cheat, against the running server. What each structure may hold is in tests/integration/tpm-attacks.test.ts; here it is the wire. */

setDefaultTimeout(120_000);

let folder: string;
let mesh: Mesh;
let port: AgentPort;
/** Another client, on connections of its own, at another address. */
let otherPort: AgentPort;
let tpm: Swtpm;
let otherTpm: Swtpm;
let serverCertificateSha256: Uint8Array;
let keyPair: KeyPair;
let provers: TpmProver[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-tpm-wire-'));
  mesh = await createMesh({ folder, trustDomain: 'example.org', hosts: 3 });
  const [, one, other] = mesh.network.hosts;
  if (one === undefined || other === undefined) throw new Error('The network has too few hosts');
  [port, otherPort] = [new AgentPort(mesh.control, one), new AgentPort(mesh.control, other)];
  [tpm, otherTpm] = [await startSwtpm(), await startSwtpm()];
  for (const [name, each] of [
    ['one', tpm],
    ['other', otherTpm],
  ] as const) {
    const { ekHash } = await prover(each).identity();
    await mesh.control.picketOk('node', 'tpm', 'approve', ekHash, '--name', name);
  }
  serverCertificateSha256 = await port.serverCertificateSha256();
}, 120_000);
afterAll(async () => {
  await mesh.remove();
  await Promise.all([tpm.stop(), otherTpm.stop()]);
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  for (const each of provers) await each.close();
  provers = [];
  keyPair = await generateP256Key();
});

function prover(of: Swtpm): TpmProver {
  const made = proverOf(of);
  provers.push(made);
  return made;
}

const requestOf = (payload: TpmPayload, keys = keyPair): AttestRequest => ({
  csr: base64(buildCsr(keys)),
  payload,
  agentVersion: '1',
  addresses: [],
});

interface Challenged {
  readonly session: string;
  readonly challenge: TpmChallenge;
}

async function begin(request: AttestRequest): Promise<Challenged> {
  const answer = attestAnswer.parse((await port.post('/v1/attest', request)).body);
  if (answer.kind !== 'challenge') throw new Error('A TPM is challenged');
  return answer;
}

const contextOf = (keys = keyPair) => ({ csrPublicKeySpki: keys.publicKeySpki, serverCertificateSha256 });
const pathOf = (session: string): string => `/v1/attest/${session}`;

/** One honest exchange up to the answer, by the TPM `one`. */
async function exchange(): Promise<Challenged & { readonly payload: TpmChallengeResponse }> {
  const honest = prover(tpm);
  const challenged = await begin(requestOf(await honest.payload()));
  return { ...challenged, payload: await honest.respond(challenged.challenge, contextOf()) };
}

describe('a session of attestation', () => {
  test('lets the honest host in, for its own key, and is answered once', async () => {
    const { session, payload } = await exchange();
    const answer = attestAnswer.parse((await port.post(pathOf(session), { payload })).body);
    if (answer.kind !== 'attested') throw new Error('It was challenged again');
    expect(String(answer.svid.spiffeId)).toBe('spiffe://example.org/picket/agent/tpm/one');
    expect(await port.refusal(pathOf(session), { payload })).toBe('404 session_unknown');
    expect(await otherPort.refusal(pathOf(session), { payload })).toBe('404 session_unknown');
  });

  test('that somebody else answers gives nobody but its own host a certificate that it can use', async () => {
    const { session, payload } = await exchange();
    const answer = attestAnswer.parse((await otherPort.post(pathOf(session), { payload })).body);
    if (answer.kind !== 'attested') throw new Error('It was challenged again');
    const leaf = new X509Certificate(Buffer.from(answer.svid.chain[0] ?? '', 'base64'));
    const key = leaf.publicKey.export({ format: 'der', type: 'spki' });
    expect(key.equals(keyPair.publicKeySpki)).toBe(true);
  });

  test('is not to be guessed, and an answer without one is none', async () => {
    const { payload } = await exchange();
    for (const session of ['A'.repeat(43), 'x', '..%2F', '%00'])
      expect(await port.refusal(pathOf(session), { payload })).toMatch(
        /^40[04] (session_unknown|request_invalid)$/,
      );
  });

  test('that was answered wrong is over: the secret is not tried again', async () => {
    const { session, payload } = await exchange();
    const wrong = { ...payload, secret: base64(random(32)) };
    expect(await port.refusal(pathOf(session), { payload: wrong })).toBe('403 secret_wrong');
    expect(await port.refusal(pathOf(session), { payload })).toBe('404 session_unknown');
  });

  test('takes no answer of another one: replayed whole, with its own secret, or both at once', async () => {
    const earlier = await exchange();
    const later = await exchange();
    const [whole, mixed] = [later, await exchange()];
    expect(await port.refusal(pathOf(whole.session), { payload: earlier.payload })).toBe('403 secret_wrong');
    const relayed = { ...earlier.payload, secret: mixed.payload.secret };
    expect(await port.refusal(pathOf(mixed.session), { payload: relayed })).toBe('403 quote_not_bound');
  });

  test('keeps nobody out who opens more of them for a host that he is not', async () => {
    const honest = prover(tpm);
    const payload = await honest.payload();
    const challenged = await begin(requestOf(payload));
    const thief = await generateP256Key();
    const opened = await Promise.all(
      Array.from(
        { length: 30 },
        async () => await otherPort.postAtOnce('/v1/attest', requestOf(payload, thief)),
      ),
    );
    // An address may begin so many at once, and some more each second.
    for (const { status } of opened) expect(status).toBeOneOf([200, 429]);
    expect(opened.filter(({ status }) => status === 200).length).toBeGreaterThan(15);
    const answer = { payload: await honest.respond(challenged.challenge, contextOf()) };
    expect((await port.post(pathOf(challenged.session), answer)).status).toBe(200);
  });
});

describe('a host that', () => {
  /** What the server says to the answer that the TPM `one` gives to another challenge or context than it was meant for. */
  async function refusalOfAnswer(
    change: (challenge: TpmChallenge) => TpmChallenge,
    context: Partial<ReturnType<typeof contextOf>> = {},
  ): Promise<string> {
    const honest = prover(tpm);
    const { session, challenge } = await begin(requestOf(await honest.payload()));
    const payload = await honest.respond(change(challenge), { ...contextOf(), ...context });
    return await port.refusal(pathOf(session), { payload });
  }

  test('quotes other PCRs, for another nonce, another key or another server, is refused', async () => {
    const same = (challenge: TpmChallenge): TpmChallenge => challenge;
    expect(await refusalOfAnswer((challenge) => ({ ...challenge, pcrs: [16, 23] }))).toBe(
      '403 quote_pcrs_wrong',
    );
    expect(await refusalOfAnswer((challenge) => ({ ...challenge, nonce: base64(random(32)) }))).toBe(
      '403 quote_not_bound',
    );
    const other = await generateP256Key();
    expect(await refusalOfAnswer(same, { csrPublicKeySpki: other.publicKeySpki })).toBe(
      '403 quote_not_bound',
    );
    expect(await refusalOfAnswer(same, { serverCertificateSha256: random(32) })).toBe('403 quote_not_bound');
  });

  test('shows the endorsement key of another machine cannot answer, and is not let in as that machine', async () => {
    const victim = prover(otherTpm);
    const { ekPublic } = await victim.payload();
    await victim.close();
    const thief = prover(tpm);
    const { akPublic } = await thief.payload();
    const { session, challenge } = await begin(requestOf({ type: 'tpm', ekPublic, akPublic }));
    expect((await refusalOf(thief.respond(challenge, contextOf()))).reason).toBe('tpm_refused');
    const own = await exchange();
    expect(await port.refusal(pathOf(session), { payload: own.payload })).toBe('403 secret_wrong');
  });

  test('brings an attestation key that would sign anything, or that could leave the TPM, is not even challenged', async () => {
    const template = AK_TEMPLATES.ecc;
    for (const without of [TPM_OBJECT.restricted, TPM_OBJECT.fixedTpm | TPM_OBJECT.fixedParent]) {
      const area = { ...template, attributes: template.attributes & ~without };
      const device = await openTpmDevice(tpm.address);
      const client = new TpmClient(device, systemClock);
      const endorsementKey = await client.createPrimary(EK_TEMPLATES.rsa2048.area, NO_PASSWORD);
      const key = await client.createPrimary(area, NO_PASSWORD);
      for (const { handle } of [key, endorsementKey]) await client.flush(handle);
      await device.close();
      expect(computeEkHash(endorsementKey.publicArea)).toBe((await prover(tpm).identity()).ekHash);
      const [ekPublic, akPublic] = [base64(endorsementKey.publicArea), base64(key.publicArea)];
      expect(await port.refusal('/v1/attest', requestOf({ type: 'tpm', ekPublic, akPublic }))).toBe(
        '403 ak_unsuitable',
      );
    }
  });

  test('sends what is no structure of a TPM is refused', async () => {
    const { ekPublic, akPublic } = await prover(tpm).payload();
    for (const spoilt of [
      { ekPublic: '', akPublic },
      { ekPublic, akPublic: base64(random(300)) },
      { ekPublic: ekPublic.slice(0, 40), akPublic },
    ])
      expect(await port.refusal('/v1/attest', requestOf({ type: 'tpm', ...spoilt }))).toMatch(/^4\d\d /);
    expect(await mesh.control.picketOk('node', 'list')).toContain('one');
  });
});
