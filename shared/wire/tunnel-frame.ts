import { PicketError } from '../errors/errors.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import { decodeUuid, encodeUuid, UUID_BYTES } from './uuid.ts';

/**
 * The tunnel between two agents, ALPN `picket/1`: frames on one TLS connection that carries one application connection after another.
 *
 * Every frame:
 *   | 0    | 1 .. 3                  | 4 ..    |
 *   | type | payload length, 24 bits | payload |
 *
 * | type | name   | from   | payload                                                                                  |
 * | 0x01 | open   | client | version u8 (1), connection id 16, destination, source                                    |
 * | 0x02 | accept | server | none: what was opened is allowed; bytes count as delivered from here on                  |
 * | 0x03 | deny   | server | reason code u8, decision id 16, text in UTF-8, at most 512 bytes                          |
 * | 0x04 | data   | both   | bytes of the application, 1 to 16,777,215                                                 |
 * | 0x05 | end    | both   | none: this direction carries no more bytes                                                |
 * | 0x06 | reset  | both   | as deny: both directions are void, and the TLS connection is closed after it             |
 * | 0x07 | ping   | both   | none                                                                                      |
 * | 0x08 | pong   | both   | none                                                                                      |
 * | 0x09 | retire | both   | none. Server: open nothing more on this connection. Client, once: it opens nothing more,  |
 * |      |        |        | and what is open should end soon, as its protocol lets it                                 |
 *
 * Destination and source are family u8 (4 or 6), address (4 or 16 bytes), port u16. The source is what the calling side says of its own
 * application: for the record, never for a decision. Integers are big-endian.
 */
export type TunnelFrame =
  | {
      readonly type: 'open';
      readonly connectionId: string;
      readonly destination: FrameAddress;
      readonly source: FrameAddress;
    }
  | {
      readonly type: 'deny' | 'reset';
      readonly reasonCode: number;
      readonly decisionId: string;
      readonly text: string;
    }
  | { readonly type: 'accept' | 'end' | 'ping' | 'pong' | 'retire' };

/** An address of 4 or 16 bytes and a port. */
export interface FrameAddress {
  readonly address: Uint8Array;
  readonly port: number;
}

/** What a decoder finds. `onData` names a range of the bytes given to `decode`, good only during the call. */
export interface FrameSink {
  onData(bytes: Uint8Array, start: number, end: number): void;
  onFrame(frame: TunnelFrame): void;
}

export const TUNNEL_VERSION = 1;
export const FRAME_HEADER_BYTES = 4;
export const MAX_DATA_BYTES = 0xff_ffff;
/** The longest text of a deny or reset frame, in bytes of UTF-8. */
export const MAX_FRAME_TEXT_BYTES = 512;

const TYPES = {
  open: 0x01,
  accept: 0x02,
  deny: 0x03,
  data: 0x04,
  end: 0x05,
  reset: 0x06,
  ping: 0x07,
  pong: 0x08,
  retire: 0x09,
} as const;
const NAMES = new Map(Object.entries(TYPES).map(([name, code]) => [code as number, name as FrameType]));
const MAX_CONTROL_BYTES = 1 + UUID_BYTES + MAX_FRAME_TEXT_BYTES;

type FrameType = keyof typeof TYPES;

/** Writes the header of a data frame for `length` bytes (1 to `MAX_DATA_BYTES`) at `offset` of `target`. */
export function writeDataHeader(target: Uint8Array, offset: number, length: number): void {
  target[offset] = TYPES.data;
  target[offset + 1] = length >>> 16;
  target[offset + 2] = length >>> 8;
  target[offset + 3] = length;
}

/** A whole control frame. A text that is too long is cut; any other value that does not fit is a RangeError. */
export function encodeFrame(frame: TunnelFrame): Uint8Array {
  const payload = new ByteWriter({ limitBytes: MAX_CONTROL_BYTES });
  if (frame.type === 'open') {
    payload.u8(TUNNEL_VERSION).bytes(encodeUuid(frame.connectionId));
    writeAddress(payload, frame.destination);
    writeAddress(payload, frame.source);
  } else if (frame.type === 'deny' || frame.type === 'reset') {
    payload.u8(frame.reasonCode).bytes(encodeUuid(frame.decisionId)).bytes(encodeText(frame.text));
  }
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + payload.length);
  bytes[0] = TYPES[frame.type];
  bytes[2] = payload.length >>> 8;
  bytes[3] = payload.length;
  bytes.set(payload.toBytes(), FRAME_HEADER_BYTES);
  return bytes;
}

/**
 * Takes the bytes of a tunnel as they come, in pieces of any size, and hands on what they hold. It keeps at most one control
 * frame. After it threw or was stopped it ignores everything.
 */
export class FrameDecoder {
  readonly #head = new Uint8Array(FRAME_HEADER_BYTES);
  #headLength = 0;
  /** Of a control frame, as long as it comes: a connection lives for data, and most wait. */
  #payload: Uint8Array | undefined;
  #payloadLength = 0;
  #dataLeft = 0;
  #isStopped = false;

  /** Throws `invalid_argument`, reason `tunnel_frame_invalid`, for bytes that no peer of ours sends. */
  decode(bytes: Uint8Array, sink: FrameSink): void {
    let at = 0;
    while (at < bytes.length && !this.#isStopped) {
      if (this.#dataLeft > 0) {
        const end = Math.min(bytes.length, at + this.#dataLeft);
        this.#dataLeft -= end - at;
        sink.onData(bytes, at, end);
        at = end;
      } else at = this.#collect(bytes, at, sink);
    }
  }

  /** Hands on nothing more, not even the rest of the bytes that are being decoded. */
  stop(): void {
    this.#isStopped = true;
  }

  #collect(bytes: Uint8Array, at: number, sink: FrameSink): number {
    let from = at;
    while (this.#headLength < FRAME_HEADER_BYTES && from < bytes.length)
      this.#head[this.#headLength++] = bytes[from++] ?? 0;
    if (this.#headLength < FRAME_HEADER_BYTES) return from;
    const type = this.#requireType();
    const length = this.#announcedLength();
    if (type !== 'data') return this.#collectControl(type, length, { bytes, from, sink });
    if (length === 0) this.#fail('a data frame is empty');
    this.#headLength = 0;
    this.#dataLeft = length;
    return from;
  }

  #collectControl(
    type: Exclude<FrameType, 'data'>,
    length: number,
    { bytes, from, sink }: { readonly bytes: Uint8Array; readonly from: number; readonly sink: FrameSink },
  ): number {
    if (length > MAX_CONTROL_BYTES) this.#fail(`a ${type} frame has ${length} bytes`);
    const payload = (this.#payload ??= new Uint8Array(length));
    let at = from;
    while (this.#payloadLength < length && at < bytes.length)
      payload[this.#payloadLength++] = bytes[at++] ?? 0;
    if (this.#payloadLength < length) return at;
    this.#headLength = 0;
    this.#payload = undefined;
    this.#payloadLength = 0;
    sink.onFrame(this.#parse(type, payload));
    return at;
  }

  #requireType(): FrameType {
    const type = NAMES.get(this.#head[0] ?? 0);
    return type ?? this.#fail(`type ${this.#head[0]} is unknown`);
  }

  #announcedLength(): number {
    return ((this.#head[1] ?? 0) << 16) | ((this.#head[2] ?? 0) << 8) | (this.#head[3] ?? 0);
  }

  #parse(type: Exclude<FrameType, 'data'>, payload: Uint8Array): TunnelFrame {
    try {
      return parsePayload(type, new ByteReader(payload));
    } catch (cause) {
      return this.#fail(`a ${type} frame is malformed`, cause);
    }
  }

  #fail(why: string, cause?: unknown): never {
    this.#isStopped = true;
    throw invalid(why, cause);
  }
}

function parsePayload(type: Exclude<FrameType, 'data'>, reader: ByteReader): TunnelFrame {
  if (type === 'open') {
    const version = reader.u8();
    if (version !== TUNNEL_VERSION) throw invalid(`version ${version} is unknown`);
    const connectionId = decodeUuid(reader.bytes(UUID_BYTES));
    const frame = {
      type,
      connectionId,
      destination: readAddress(reader),
      source: readAddress(reader),
    } as const;
    reader.requireEnd();
    return frame;
  }
  if (type === 'deny' || type === 'reset') {
    const reasonCode = reader.u8();
    const decisionId = decodeUuid(reader.bytes(UUID_BYTES));
    return { type, reasonCode, decisionId, text: new TextDecoder().decode(reader.rest()) };
  }
  reader.requireEnd();
  return { type };
}

function writeAddress(writer: ByteWriter, { address, port }: FrameAddress): void {
  if (address.length !== 4 && address.length !== 16)
    throw new RangeError(`An address has 4 or 16 bytes, not ${address.length}`);
  writer.u8(address.length === 4 ? 4 : 6).bytes(address);
  writer.u16(port);
}

function readAddress(reader: ByteReader): FrameAddress {
  const family = reader.u8();
  if (family !== 4 && family !== 6) throw invalid(`address family ${family} is unknown`);
  const address = reader.bytes(family === 4 ? 4 : 16).slice();
  return { address, port: reader.u16() };
}

/** UTF-8 of `text`, cut between characters so that it fits. */
function encodeText(text: string): Uint8Array {
  const bytes = new Uint8Array(MAX_FRAME_TEXT_BYTES);
  const { written } = new TextEncoder().encodeInto(text, bytes);
  return bytes.subarray(0, written);
}

function invalid(why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', 'tunnel_frame_invalid', `Cannot read tunnel frame: ${why}`, {
    cause,
  });
}
