import { randomBytes } from 'node:crypto';
import { TpmProver, type TpmProverOptions } from '../../agent/node-attestation/tpm.ts';
import { type TpmHostDecision, TpmHosts } from '../../server/agents/tpm-hosts.ts';
import {
  type ManufacturerCertificates,
  parseManufacturerCertificates,
} from '../../server/node-attestation/ek-certificate.ts';
import type { AttestationStep, AttestedNode } from '../../server/node-attestation/node-attestor.ts';
import { TpmAttestor, type TpmAttestorOptions } from '../../server/node-attestation/tpm.ts';
import {
  attestAnswer,
  attestRequest,
  challengeResponse,
  type TpmPayload,
} from '../../shared/protocol/attestation.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { openTestPglite, type TestDatastore } from './datastore.ts';
import { createSwtpmManufacturer, startSwtpm, type Swtpm, type SwtpmManufacturer } from './swtpm.ts';

export type ChallengeStep = Extract<AttestationStep, { kind: 'challenge' }>;

/** What the attestors of a rig quote, unless told otherwise. */
export const RIG_PCRS = [0, 7, 23];
/** What one quote is bound to. */
export const RIG_CONTEXT = { csrPublicKeySpki: random(91), serverCertificateSha256: random(32) };

/** Two hosts with certified TPMs, and the server's side with its database. */
export class TpmRig {
  readonly host: Swtpm;
  readonly otherHost: Swtpm;
  readonly hosts: TpmHosts;
  readonly #manufacturer: SwtpmManufacturer;
  readonly #manufacturers: ManufacturerCertificates;
  readonly #kept: TestDatastore;

  private constructor(parts: {
    readonly host: Swtpm;
    readonly otherHost: Swtpm;
    readonly kept: TestDatastore;
    readonly manufacturer: SwtpmManufacturer;
    readonly manufacturers: ManufacturerCertificates;
  }) {
    this.host = parts.host;
    this.otherHost = parts.otherHost;
    this.hosts = new TpmHosts(parts.kept.datastore);
    this.#kept = parts.kept;
    this.#manufacturer = parts.manufacturer;
    this.#manufacturers = parts.manufacturers;
  }

  static async open(): Promise<TpmRig> {
    const manufacturer = await createSwtpmManufacturer();
    const host = await startSwtpm({ manufacturer });
    const otherHost = await startSwtpm({ manufacturer });
    const manufacturers = parseManufacturerCertificates({
      roots: await manufacturer.rootPem(),
      intermediates: await manufacturer.intermediatePem(),
    });
    return new TpmRig({ host, otherHost, manufacturer, manufacturers, kept: await openTestPglite() });
  }

  async close(): Promise<void> {
    await this.host.stop();
    await this.otherHost.stop();
    await this.#manufacturer.remove();
    await this.#kept.dispose();
  }

  attestor(options: Partial<TpmAttestorOptions> = {}): TpmAttestor {
    return new TpmAttestor({
      hosts: this.hosts,
      random,
      clock: systemClock,
      pcrs: RIG_PCRS,
      manufacturers: this.#manufacturers,
      isEkCertificateRequired: false,
      ...options,
    });
  }

  /** Approves the prover's TPM and returns its hash. */
  async approve(
    prover: TpmProver,
    decision: Pick<TpmHostDecision, 'name' | 'expectedPcrs'> = {},
  ): Promise<string> {
    const { ekHash } = await prover.identity();
    await this.hosts.approve({ ekHash, decidedBy: 'me', ...decision });
    return ekHash;
  }
}

export function proverOf(tpm: Swtpm, options: Partial<Pick<TpmProverOptions, 'ek' | 'ak'>> = {}): TpmProver {
  return new TpmProver({ address: tpm.address, ek: 'rsa', random, clock: systemClock, ...options });
}

/** The first message and the challenge, each as it looks after its passage over the wire. */
export async function beginAttestation(attestor: TpmAttestor, payload: TpmPayload): Promise<ChallengeStep> {
  const request = attestRequest.parse({ csr: '', agentVersion: '1', payload });
  if (request.payload.type !== 'tpm') throw new Error('the payload is of a TPM');
  const step = await attestor.begin(request.payload, RIG_CONTEXT);
  if (step.kind !== 'challenge') throw new Error('a TPM is challenged');
  const answer = attestAnswer.parse({ kind: 'challenge', session: 'x', challenge: step.challenge });
  if (answer.kind !== 'challenge') throw new Error('the answer is a challenge');
  return { ...step, challenge: answer.challenge };
}

/** The whole exchange of an honest host. */
export async function attestByTpm(prover: TpmProver, attestor: TpmAttestor): Promise<AttestedNode> {
  try {
    const step = await beginAttestation(attestor, await prover.payload());
    const payload = await prover.respond(step.challenge, RIG_CONTEXT);
    return await step.respond(challengeResponse.parse({ payload }).payload);
  } finally {
    await prover.close();
  }
}

/** Random bytes in an array of their own. */
export function random(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length));
}
