import { PicketError } from '../../shared/errors/errors.ts';
import type { TpmChallenge, TpmChallengeResponse, TpmPayload } from '../../shared/protocol/attestation.ts';
import { computeQualifyingData } from '../../shared/protocol/tpm-binding.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { parseTpmQuote } from '../../shared/wire/tpm2-attest.ts';
import { TPM_HANDLE, type TpmAuthorization } from '../../shared/wire/tpm2-command.ts';
import type { RandomBytes } from '../../shared/wire/tpm2-credential.ts';
import { computePcrDigest } from '../../shared/wire/tpm2-pcr-selection.ts';
import { TPM_OBJECT } from '../../shared/wire/tpm2-public.ts';
import { AK_TEMPLATES } from '../../shared/wire/tpm2-templates.ts';
import {
  computeEkHash,
  createEndorsementKey,
  type EkChoice,
  type EndorsementKey,
} from './endorsement-key.ts';
import type { NodeProver } from './node-prover.ts';
import { type SignedQuote, TpmClient, type TpmObject, NO_PASSWORD } from './tpm-client.ts';
import { openTpmDevice } from './open-tpm-device.ts';
import type { TpmDevice } from './tpm-device.ts';

export interface TpmProverOptions {
  /** See `openTpmDevice`. */
  readonly address: string;
  readonly ek: EkChoice;
  /** Kind of the attestation key; ECDSA P-256 unless the TPM has no elliptic curves. */
  readonly ak?: 'ecc' | 'rsa';
  /** Authorization value of the endorsement hierarchy; empty on most machines. */
  readonly endorsementPassword?: Uint8Array;
  readonly random: RandomBytes;
  readonly clock: Clock;
}

/** What an operator needs to know of a host's TPM before it may attest. */
export interface TpmIdentity {
  /** SHA-256 of the endorsement key's SubjectPublicKeyInfo, in hexadecimal. */
  readonly ekHash: string;
  /** DER of its certificate, when the manufacturer left one. */
  readonly ekCertificate: Uint8Array | undefined;
}

/** What is loaded in the TPM between the first message and the answer. */
interface Loaded {
  readonly device: TpmDevice;
  readonly client: TpmClient;
  readonly endorsementKey: EndorsementKey;
  readonly attestationKey: TpmObject;
}

const FIRST_TRANSIENT = 0x8000_0000;
const FIRST_LOADED_SESSION = 0x0200_0000;
const SESSION_NONCE_BYTES = 16;
/** Of the challenge: fixed, because the nonce stands first in what is hashed. */
const NONCE_BYTES = 32;
/** How often values and quote are taken anew when a PCR was extended between the two. */
const MAX_QUOTE_ATTEMPTS = 5;

/**
 * Proves the host by its TPM 2.0: which endorsement key it has, and the state that its PCRs are in. Both keys are derived from the TPM's seed when they
 * are needed and stay loaded from `payload()` to the end of `respond()` or `close()`, whichever is first; nothing is left in the TPM.
 */
export class TpmProver implements NodeProver {
  readonly canReattest = true;
  readonly #options: TpmProverOptions;
  #loaded: Loaded | undefined;

  constructor(options: TpmProverOptions) {
    this.#options = options;
  }

  async payload(): Promise<TpmPayload> {
    await this.close();
    this.#loaded = await withDevice(this.#options, async (device, client) => {
      const endorsementKey = await this.#createEndorsementKey(client);
      try {
        const attestationKey = await client.createPrimary(
          AK_TEMPLATES[this.#options.ak ?? 'ecc'],
          this.#endorsement(),
        );
        return { device, client, endorsementKey, attestationKey };
      } catch (error) {
        await client.release(endorsementKey.handle);
        throw error;
      }
    });
    const { endorsementKey, attestationKey } = this.#loaded;
    return {
      type: 'tpm',
      ekPublic: base64(endorsementKey.publicArea),
      ...(endorsementKey.certificate ? { ekCertificate: base64(endorsementKey.certificate) } : {}),
      akPublic: base64(attestationKey.publicArea),
    };
  }

  async respond(
    challenge: TpmChallenge,
    context: { readonly csrPublicKeySpki: Uint8Array; readonly serverCertificateSha256: Uint8Array },
  ): Promise<TpmChallengeResponse> {
    const loaded = this.#loaded;
    if (!loaded)
      throw new PicketError(
        'failed_precondition',
        'challenge_unexpected',
        'Cannot answer a challenge: none was asked for',
      );
    try {
      const qualifyingData = computeQualifyingData({ ...context, nonce: requireNonce(challenge) });
      const secret = await this.#activate(loaded, challenge);
      const { values, quote, signature } = await quotePcrs(loaded, { qualifyingData, pcrs: challenge.pcrs });
      return {
        type: 'tpm',
        secret: base64(secret),
        quote: base64(quote),
        signature: base64(signature),
        pcrValues: challenge.pcrs.map((pcr) => Buffer.from(values.get(pcr) ?? []).toString('hex')),
      };
    } finally {
      await this.close();
    }
  }

  /** Flushes what is loaded and closes the device; safe to call again. */
  async close(): Promise<void> {
    const loaded = this.#loaded;
    this.#loaded = undefined;
    if (!loaded) return;
    await loaded.client.release(loaded.attestationKey.handle);
    await loaded.client.release(loaded.endorsementKey.handle);
    await loaded.device.close();
  }

  /** The hash that an operator approves, and the certificate: read without attesting. */
  identity(): Promise<TpmIdentity> {
    return withDevice(this.#options, async (device, client) => {
      const { handle, publicArea, certificate } = await this.#createEndorsementKey(client);
      await client.flush(handle);
      await device.close();
      return { ekHash: computeEkHash(publicArea), ekCertificate: certificate };
    });
  }

  async #activate(loaded: Loaded, challenge: TpmChallenge): Promise<Uint8Array> {
    const { client, endorsementKey, attestationKey } = loaded;
    const authorization = await this.#authorizeEndorsementKey(loaded);
    try {
      return await client.activateCredential(
        { attestationKey: attestationKey.handle, endorsementKey: endorsementKey.handle },
        {
          credentialBlob: Buffer.from(challenge.credentialBlob, 'base64'),
          encryptedSecret: Buffer.from(challenge.encryptedSecret, 'base64'),
          endorsementKeyAuthorization: authorization,
        },
      );
    } finally {
      if (authorization.session !== TPM_HANDLE.password) await client.release(authorization.session);
    }
  }

  /** Keys by the low-range templates are used under their policy alone, those by the high-range ones also with their empty password. */
  async #authorizeEndorsementKey({ client, endorsementKey }: Loaded): Promise<TpmAuthorization> {
    const { attributes, nameAlgorithm } = endorsementKey.template.area;
    if (attributes & TPM_OBJECT.userWithAuth) return NO_PASSWORD;
    const session = await client.startEndorsementSession({
      hash: nameAlgorithm,
      nonce: this.#options.random(SESSION_NONCE_BYTES),
      endorsement: this.#endorsement(),
    });
    return { session, password: new Uint8Array(0) };
  }

  #createEndorsementKey(client: TpmClient): Promise<EndorsementKey> {
    return createEndorsementKey(client, { choice: this.#options.ek, endorsement: this.#endorsement() });
  }

  #endorsement(): TpmAuthorization {
    return { session: TPM_HANDLE.password, password: this.#options.endorsementPassword ?? new Uint8Array(0) };
  }
}

/** Opens the device for `work`, which closes it or keeps it; a failure closes it here. */
async function withDevice<T>(
  { address, clock }: TpmProverOptions,
  work: (device: TpmDevice, client: TpmClient) => Promise<T>,
): Promise<T> {
  const device = await openTpmDevice(address);
  try {
    const client = new TpmClient(device, clock);
    if (!device.hasResourceManager) await flushLeftovers(client);
    return await work(device, client);
  } catch (error) {
    await device.close();
    throw error;
  }
}

/** A TPM without a resource manager serves one client at a time: what is still loaded was left by a program that was killed. */
async function flushLeftovers(client: TpmClient): Promise<void> {
  for (const first of [FIRST_TRANSIENT, FIRST_LOADED_SESSION])
    for (const handle of await client.listHandles(first)) await client.flush(handle);
}

async function quotePcrs(
  { client, attestationKey }: Loaded,
  options: { readonly qualifyingData: Uint8Array; readonly pcrs: readonly number[] },
): Promise<SignedQuote & { readonly values: ReadonlyMap<number, Uint8Array> }> {
  for (let attempt = 1; attempt <= MAX_QUOTE_ATTEMPTS; attempt++) {
    const values = await client.readPcrs(options.pcrs);
    const missing = options.pcrs.find((pcr) => !values.has(pcr));
    if (missing !== undefined)
      throw new PicketError(
        'failed_precondition',
        'pcr_missing',
        `The TPM has no PCR ${missing} with SHA-256`,
      );
    const signed = await client.quote(attestationKey.handle, options);
    if (Buffer.from(computePcrDigest(values)).equals(parseTpmQuote(signed.quote).pcrDigest))
      return { ...signed, values };
  }
  throw new PicketError('unavailable', 'pcr_changing', 'Cannot quote the PCRs: they change all the time');
}

function requireNonce(challenge: TpmChallenge): Uint8Array {
  const nonce = Buffer.from(challenge.nonce, 'base64');
  if (nonce.length === NONCE_BYTES) return nonce;
  throw new PicketError(
    'invalid_argument',
    'challenge_invalid',
    `The server's nonce is not ${NONCE_BYTES} bytes`,
  );
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
