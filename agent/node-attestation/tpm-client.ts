import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { ByteReader } from '../../shared/wire/byte-reader.ts';
import { ByteWriter } from '../../shared/wire/byte-writer.ts';
import { hashFacts, invalidStructure, TPM_ALG, type TpmHash } from '../../shared/wire/tpm2-algorithms.ts';
import { buildSized, readSized } from '../../shared/wire/tpm2-buffer.ts';
import {
  buildTpmCommand,
  parseTpmResponse,
  TPM_HANDLE,
  type TpmAuthorization,
  type TpmCommand,
  type TpmResponse,
} from '../../shared/wire/tpm2-command.ts';
import { buildPcrSelection, readPcrSelection } from '../../shared/wire/tpm2-pcr-selection.ts';
import { buildTpmPublic, type TpmPublic } from '../../shared/wire/tpm2-public.ts';
import {
  describeTpmResponseCode,
  isTpmBusy,
  isTpmRetryable,
  tpmErrorOf,
} from '../../shared/wire/tpm2-response-code.ts';
import type { TpmDevice } from './tpm-device.ts';

/** An object or session that the TPM keeps loaded until `flush`. */
export type TpmHandle = number;

export interface TpmObject {
  readonly handle: TpmHandle;
  /** TPMT_PUBLIC as the TPM marshalled it. */
  readonly publicArea: Uint8Array;
}

/** TPMS_ATTEST and TPMT_SIGNATURE. */
export interface SignedQuote {
  readonly quote: Uint8Array;
  readonly signature: Uint8Array;
}

const EMPTY = new Uint8Array(0);
const NONCE_BYTES = 16;
const SESSION_POLICY = 1;
const MAX_PUBLIC_BYTES = 1024;
const MAX_NV_BYTES = 8192;
/** TPMs return between 512 and 2,048 bytes of an NV index at once. */
const NV_BLOCK_BYTES = 512;
/** TPMA_NV_AUTHREAD: whoever knows the index's own authorization value, here an empty one, may read it. */
const NV_AUTH_READ = 1 << 18;
const CAPABILITY_HANDLES = 1;
const MAX_HANDLES = 254;
const RC_HANDLE = 0x08b;
/** Pauses before a command is sent again, doubling: 5 seconds in all. */
const FIRST_PAUSE_MS = 20;
const LAST_PAUSE_MS = 2560;

/** An authorization with an empty password. */
export const NO_PASSWORD: TpmAuthorization = { session: TPM_HANDLE.password, password: EMPTY };

/**
 * The commands of TPM 2.0 Part 3 that attestation needs. Every refusal by the TPM is `failed_precondition` (or `unavailable`, where trying again can
 * help), reason `tpm_refused`, with the command and the response code in words; `details.responseCode` is the number.
 */
export class TpmClient {
  readonly #device: TpmDevice;
  readonly #clock: Clock;

  constructor(device: TpmDevice, clock: Clock) {
    this.#device = device;
    this.#clock = clock;
  }

  /** TPM2_CreatePrimary in the endorsement hierarchy: the same template gives the same key for the life of the TPM's seed. */
  async createPrimary(template: TpmPublic, endorsement: TpmAuthorization): Promise<TpmObject> {
    const parameters = new ByteWriter()
      .bytes(buildSized(new ByteWriter().u16(0).u16(0).toBytes()))
      .bytes(buildSized(buildTpmPublic(template)))
      .u16(0)
      .u32(0)
      .toBytes();
    const { handle, reader } = await this.#run(
      { name: 'createPrimary', handles: [TPM_HANDLE.endorsement], authorizations: [endorsement], parameters },
      { hasHandle: true },
    );
    return { handle, publicArea: readSized(reader, MAX_PUBLIC_BYTES) };
  }

  /** What an NV index holds; undefined when it is not defined. */
  async findNvData(index: number): Promise<Uint8Array | undefined> {
    const response = await this.#send({ name: 'nvReadPublic', handles: [index] });
    if (!response.isSuccess && tpmErrorOf(response.responseCode) === RC_HANDLE) return undefined;
    const { size, attributes } = parseNvPublic(requireSuccess('nvReadPublic', response).parameters);
    const authority = attributes & NV_AUTH_READ ? index : TPM_HANDLE.owner;
    const blocks: Uint8Array[] = [];
    for (let offset = 0; offset < size; offset += NV_BLOCK_BYTES) {
      const length = Math.min(NV_BLOCK_BYTES, size - offset);
      blocks.push(await this.#readNvBlock([authority, index], { offset, length }));
    }
    return Buffer.concat(blocks);
  }

  /** A policy session in which the endorsement hierarchy was authorized (PolicySecret): what an EK by the default template demands. */
  async startEndorsementSession(options: {
    readonly hash: TpmHash;
    readonly nonce: Uint8Array;
    readonly endorsement: TpmAuthorization;
  }): Promise<TpmHandle> {
    if (options.nonce.length !== NONCE_BYTES) throw new RangeError(`The nonce is not ${NONCE_BYTES} bytes`);
    const parameters = new ByteWriter()
      .bytes(buildSized(options.nonce))
      .u16(0)
      .u8(SESSION_POLICY)
      .u16(TPM_ALG.null)
      .u16(hashFacts(options.hash).id)
      .toBytes();
    const handles = [TPM_HANDLE.null, TPM_HANDLE.null];
    const { handle } = await this.#run(
      { name: 'startAuthSession', handles, parameters },
      { hasHandle: true },
    );
    try {
      await this.#satisfyPolicy(handle, options.endorsement);
      return handle;
    } catch (error) {
      await this.release(handle);
      throw error;
    }
  }

  /** TPM2_ActivateCredential: the secret, if the credential was made for this endorsement key and this attestation key. */
  async activateCredential(
    keys: { readonly attestationKey: TpmHandle; readonly endorsementKey: TpmHandle },
    options: {
      readonly credentialBlob: Uint8Array;
      readonly encryptedSecret: Uint8Array;
      readonly endorsementKeyAuthorization: TpmAuthorization;
    },
  ): Promise<Uint8Array> {
    const { reader } = await this.#run({
      name: 'activateCredential',
      handles: [keys.attestationKey, keys.endorsementKey],
      authorizations: [NO_PASSWORD, options.endorsementKeyAuthorization],
      parameters: Buffer.concat([options.credentialBlob, options.encryptedSecret]),
    });
    return readSized(reader, 64);
  }

  /** TPM2_Quote over PCRs of the SHA-256 bank, by the key's own scheme. */
  async quote(
    key: TpmHandle,
    options: { readonly qualifyingData: Uint8Array; readonly pcrs: readonly number[] },
  ): Promise<SignedQuote> {
    const parameters = new ByteWriter()
      .bytes(buildSized(options.qualifyingData))
      .u16(TPM_ALG.null)
      .bytes(buildPcrSelection(options.pcrs))
      .toBytes();
    const { reader } = await this.#run({
      name: 'quote',
      handles: [key],
      authorizations: [NO_PASSWORD],
      parameters,
    });
    return { quote: readSized(reader, 2048), signature: reader.rest() };
  }

  /** Values of PCRs of the SHA-256 bank; those that the TPM does not have in it are missing from the map. */
  async readPcrs(pcrs: readonly number[]): Promise<ReadonlyMap<number, Uint8Array>> {
    const values = new Map<number, Uint8Array>();
    // A TPM returns as many as fit its response, commonly eight.
    for (let missing = [...pcrs]; missing.length > 0; missing = missing.filter((pcr) => !values.has(pcr))) {
      const { reader } = await this.#run({ name: 'pcrRead', parameters: buildPcrSelection(missing) });
      reader.u32();
      const returned = readPcrSelection(reader).flatMap((bank) => bank.pcrs);
      const count = reader.u32();
      if (count === 0) return values;
      if (count !== returned.length)
        throw invalidStructure('PCR values: there are not as many as were selected');
      for (const pcr of returned) values.set(pcr, readSized(reader, 32));
    }
    return values;
  }

  /** Handles of a range that are in use, such as 0x80000000 for transient objects and 0x02000000 for loaded sessions. */
  async listHandles(firstHandle: number): Promise<readonly TpmHandle[]> {
    const parameters = new ByteWriter().u32(CAPABILITY_HANDLES).u32(firstHandle).u32(MAX_HANDLES).toBytes();
    const { reader } = await this.#run({ name: 'getCapability', parameters });
    reader.u8();
    if (reader.u32() !== CAPABILITY_HANDLES)
      throw invalidStructure('capability: it is not a list of handles');
    const count = reader.u32();
    if (count > MAX_HANDLES) throw invalidStructure(`list of ${count} handles`);
    return Array.from({ length: count }, () => reader.u32());
  }

  /** TPM2_FlushContext of an object or session. */
  async flush(handle: TpmHandle): Promise<void> {
    await this.#run({ name: 'flushContext', parameters: new ByteWriter().u32(handle).toBytes() });
  }

  /** Flushes as clean-up: a failure is not reported, since a device that failed holds nothing more of ours and the first error counts. */
  async release(handle: TpmHandle): Promise<void> {
    try {
      await this.flush(handle);
    } catch (error) {
      if (!(error instanceof PicketError)) throw error;
    }
  }

  async #satisfyPolicy(session: TpmHandle, endorsement: TpmAuthorization): Promise<void> {
    // nonceTPM, cpHashA and policyRef are empty, expiration is 0: the authorization counts for this session, without further bounds.
    const parameters = new ByteWriter().u16(0).u16(0).u16(0).u32(0).toBytes();
    const handles = [TPM_HANDLE.endorsement, session];
    await this.#run({ name: 'policySecret', handles, authorizations: [endorsement], parameters });
  }

  async #readNvBlock(
    handles: readonly number[],
    { offset, length }: { readonly offset: number; readonly length: number },
  ): Promise<Uint8Array> {
    const parameters = new ByteWriter().u16(length).u16(offset).toBytes();
    const { reader } = await this.#run({
      name: 'nvRead',
      handles,
      authorizations: [NO_PASSWORD],
      parameters,
    });
    return readSized(reader, NV_BLOCK_BYTES);
  }

  async #run(
    command: TpmCommand,
    { hasHandle = false }: { readonly hasHandle?: boolean } = {},
  ): Promise<{ readonly handle: TpmHandle; readonly reader: ByteReader }> {
    const { handle, parameters } = requireSuccess(command.name, await this.#send(command, hasHandle));
    return { handle: handle ?? TPM_HANDLE.null, reader: new ByteReader(parameters) };
  }

  /** Sends a command, again and after growing pauses while the TPM is busy testing itself (Part 3, 5.6: nothing was done yet). */
  async #send(command: TpmCommand, hasHandle = false): Promise<TpmResponse> {
    const bytes = buildTpmCommand(command);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
      const response = parseTpmResponse(await this.#device.transmit(bytes), { hasHandle });
      if (response.isSuccess || !isTpmBusy(response.responseCode) || pauseMs > LAST_PAUSE_MS) return response;
      await this.#pause(pauseMs);
    }
  }

  #pause(pauseMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#clock.schedule(pauseMs, resolve);
    return promise;
  }
}

function requireSuccess(name: string, response: TpmResponse): TpmResponse & { isSuccess: true } {
  if (response.isSuccess) return response;
  const { responseCode } = response;
  throw new PicketError(
    isTpmRetryable(responseCode) ? 'unavailable' : 'failed_precondition',
    'tpm_refused',
    `The TPM refused ${name}: ${describeTpmResponseCode(responseCode)}`,
    { details: { responseCode } },
  );
}

/** TPM2B_NV_PUBLIC (Part 2, 13.6); its Name follows and is not read. */
function parseNvPublic(parameters: Uint8Array): { readonly size: number; readonly attributes: number } {
  const reader = new ByteReader(readSized(new ByteReader(parameters), 256));
  reader.u32();
  reader.u16();
  const attributes = reader.u32();
  readSized(reader, 64);
  const size = reader.u16();
  if (size > MAX_NV_BYTES) throw invalidStructure(`NV index of ${size} bytes`);
  return { size, attributes };
}
