import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import { invalidStructure } from './tpm2-algorithms.ts';
import { buildSized } from './tpm2-buffer.ts';

/** TPM_CC values (Part 2, 6.5.2). */
export const TPM_COMMAND = {
  createPrimary: 0x131,
  activateCredential: 0x147,
  nvRead: 0x14e,
  policySecret: 0x151,
  quote: 0x158,
  flushContext: 0x165,
  nvReadPublic: 0x169,
  startAuthSession: 0x176,
  getCapability: 0x17a,
  pcrRead: 0x17e,
} as const;

export type TpmCommandName = keyof typeof TPM_COMMAND;

/** Permanent handles (Part 2, 7.4). */
export const TPM_HANDLE = {
  owner: 0x4000_0001,
  null: 0x4000_0007,
  password: 0x4000_0009,
  endorsement: 0x4000_000b,
} as const;

/** The header and no response or command of a PC client's TPM are larger than this, in bytes. */
export const TPM_HEADER_BYTES = 10;
export const MAX_TPM_MESSAGE_BYTES = 4096;

const TAG_NO_SESSIONS = 0x8001;
const TAG_SESSIONS = 0x8002;
/** TPMA_SESSION continueSession: the session stays until it is flushed. */
const CONTINUE_SESSION = 1;

/** How one handle of a command is authorized: by a password (`TPM_HANDLE.password`), or by a satisfied policy session without one. */
export interface TpmAuthorization {
  readonly session: number;
  readonly password: Uint8Array;
}

export interface TpmCommand {
  readonly name: TpmCommandName;
  readonly handles?: readonly number[];
  /** One for each of the first handles that need one, in order. */
  readonly authorizations?: readonly TpmAuthorization[];
  readonly parameters?: Uint8Array;
}

export type TpmResponse =
  | { readonly isSuccess: true; readonly handle: number | null; readonly parameters: Uint8Array }
  /** TPM_RC, never 0. */
  | { readonly isSuccess: false; readonly responseCode: number };

/**
 * A command as the TPM takes it (Part 1, 18). Beyond 4,096 bytes it is a `RangeError`.
 *
 *     2  tag            0x8001, or 0x8002 with authorizations
 *     4  commandSize
 *     4  commandCode
 *    4n  handles
 *   4+n  authorizations, when the tag says so
 *     …  parameters
 */
export function buildTpmCommand(command: TpmCommand): Uint8Array {
  const body = new ByteWriter();
  for (const handle of command.handles ?? []) body.u32(handle);
  const authorizations = command.authorizations ?? [];
  if (authorizations.length > 0) {
    const area = Buffer.concat(authorizations.map(buildAuthorization));
    body.u32(area.length).bytes(area);
  }
  body.bytes(command.parameters ?? new Uint8Array(0));
  return new ByteWriter({ limitBytes: MAX_TPM_MESSAGE_BYTES })
    .u16(authorizations.length > 0 ? TAG_SESSIONS : TAG_NO_SESSIONS)
    .u32(TPM_HEADER_BYTES + body.length)
    .u32(TPM_COMMAND[command.name])
    .bytes(body.toBytes())
    .toBytes();
}

/** The size that a message's header announces; `tpm_structure_invalid` when no TPM sends such a one. Needs the header's ten bytes. */
export function readTpmMessageSize(header: Uint8Array): number {
  const reader = new ByteReader(header);
  reader.u16();
  const size = reader.u32();
  if (size < TPM_HEADER_BYTES || size > MAX_TPM_MESSAGE_BYTES)
    throw invalidStructure(`response: it announces ${size} bytes`);
  return size;
}

/**
 * Reads a whole response. `hasHandle` says whether the command's successful response carries one.
 *
 *     2  tag
 *     4  responseSize
 *     4  responseCode
 *     4  handle, for some commands
 *     4  parameterSize, when the tag is 0x8002
 *     …  parameters, then the sessions' acknowledgements when the tag is 0x8002
 */
export function parseTpmResponse(
  bytes: Uint8Array,
  { hasHandle }: { readonly hasHandle: boolean },
): TpmResponse {
  if (readTpmMessageSize(bytes) !== bytes.length)
    throw invalidStructure('response: its size is not the announced one');
  const reader = new ByteReader(bytes);
  const tag = reader.u16();
  reader.u32();
  const responseCode = reader.u32();
  if (responseCode !== 0) return { isSuccess: false, responseCode };
  const handle = hasHandle ? reader.u32() : null;
  if (tag === TAG_NO_SESSIONS) return { isSuccess: true, handle, parameters: reader.rest() };
  if (tag !== TAG_SESSIONS) throw invalidStructure(`response: unknown tag ${tag}`);
  return { isSuccess: true, handle, parameters: reader.bytes(reader.u32()) };
}

/** TPMS_AUTH_COMMAND without a nonce: neither a password nor an unbound policy session needs one. */
function buildAuthorization({ session, password }: TpmAuthorization): Uint8Array {
  return new ByteWriter().u32(session).u16(0).u8(CONTINUE_SESSION).bytes(buildSized(password)).toBytes();
}
