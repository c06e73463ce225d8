/**
 * HTTP/2 frames (RFC 9113 4.1):
 *   | 0 .. 2         | 3    | 4     | 5 .. 8                                | 9 ..    |
 *   | payload length | type | flags | one reserved bit, stream id (31 bits) | payload |
 */
export const FRAME_HEADER_BYTES = 9;

/** What a client with prior knowledge says first, before its SETTINGS (RFC 9113 3.4). */
export const CLIENT_PREFACE: Uint8Array = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** Types of frames (RFC 9113 6). */
export const FRAME = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  rstStream: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goAway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const;

/** Flags of frames. ACK and END_STREAM are the same bit, of different types. */
export const FLAG = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** Why a stream or a connection ends (RFC 9113 7). */
export const HTTP2_ERROR = {
  no_error: 0x0,
  protocol_error: 0x1,
  internal_error: 0x2,
  flow_control_error: 0x3,
  stream_closed: 0x5,
  frame_size_error: 0x6,
  refused_stream: 0x7,
  cancel: 0x8,
  compression_error: 0x9,
  connect_error: 0xa,
  enhance_your_calm: 0xb,
} as const;

export type Http2ErrorName = keyof typeof HTTP2_ERROR;

/** The largest payload that every reader takes (RFC 9113 4.2). */
export const MIN_MAX_FRAME_BYTES = 16_384;
/** Of a window, and of a stream's id. */
export const MAX_31_BITS = 0x7fff_ffff;
/** The window of a connection, and of a stream, before anybody has said another (RFC 9113 6.9.2). */
export const DEFAULT_WINDOW_BYTES = 65_535;

/** The header of a frame. A reader may use one object for all. */
export interface FrameHeader {
  length: number;
  type: number;
  flags: number;
  streamId: number;
}

/** Reads the header at `at` into `header`; there must be `FRAME_HEADER_BYTES`. */
export function readFrameHeader(bytes: Uint8Array, at: number, header: FrameHeader): void {
  header.length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
  header.type = bytes[at + 3] ?? 0;
  header.flags = bytes[at + 4] ?? 0;
  header.streamId = readUint31(bytes, at + 5);
}

/** Writes a header at `at`. Returns where the payload begins. */
export function writeFrameHeader(target: Uint8Array, at: number, header: FrameHeader): number {
  const { length, type, flags, streamId } = header;
  target[at] = length >>> 16;
  target[at + 1] = length >>> 8;
  target[at + 2] = length;
  target[at + 3] = type;
  target[at + 4] = flags;
  writeUint32(target, at + 5, streamId);
  return at + FRAME_HEADER_BYTES;
}

/** Four bytes without their reserved first bit: a stream id, or the increment of a window. */
export function readUint31(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) & 0x7f) << 24) |
    ((bytes[at + 1] ?? 0) << 16) |
    ((bytes[at + 2] ?? 0) << 8) |
    (bytes[at + 3] ?? 0)
  );
}

/** A whole frame. */
export function encodeFrame(
  type: number,
  streamId: number,
  { flags = 0, payload = NOTHING }: { readonly flags?: number; readonly payload?: Uint8Array } = {},
): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + payload.length);
  frame.set(payload, writeFrameHeader(frame, 0, { length: payload.length, type, flags, streamId }));
  return frame;
}

export function encodeRstStream(streamId: number, error: Http2ErrorName): Uint8Array {
  return encodeFrame(FRAME.rstStream, streamId, { payload: uint32(HTTP2_ERROR[error]) });
}

export function encodeWindowUpdate(streamId: number, increment: number): Uint8Array {
  return encodeFrame(FRAME.windowUpdate, streamId, { payload: uint32(increment) });
}

/** `lastStreamId`: no request beyond it was, or will be, looked at (RFC 9113 6.8). */
export function encodeGoAway(lastStreamId: number, error: Http2ErrorName): Uint8Array {
  const payload = new Uint8Array(8);
  writeUint32(payload, 0, lastStreamId);
  writeUint32(payload, 4, HTTP2_ERROR[error]);
  return encodeFrame(FRAME.goAway, 0, { payload });
}

const NOTHING = new Uint8Array(0);

function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeUint32(bytes, 0, value);
  return bytes;
}

function writeUint32(target: Uint8Array, at: number, value: number): void {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
}
