import { http2Failure } from './http2-error.ts';
import { encodeFrame, FRAME, MAX_31_BITS, MIN_MAX_FRAME_BYTES } from './http2-frame.ts';

/** Parameters of SETTINGS (RFC 9113 6.5.2; RFC 8441 3). */
export const SETTING = {
  headerTableSize: 0x1,
  enablePush: 0x2,
  maxConcurrentStreams: 0x3,
  initialWindowSize: 0x4,
  maxFrameSize: 0x5,
  maxHeaderListSize: 0x6,
  enableConnectProtocol: 0x8,
} as const;

/** By identifier, in the order in which they came first. */
export type Settings = ReadonlyMap<number, number>;

const PARAMETER_BYTES = 6;
/** The longest frame that anybody can take (RFC 9113 4.2). */
const MAX_MAX_FRAME_BYTES = 0xff_ffff;
/** More parameters than anybody has. */
const MAX_PARAMETERS = 64;

/** Whether a SETTINGS frame may have so long a payload. */
export function isSettingsLength(length: number): boolean {
  return length % PARAMETER_BYTES === 0 && length <= MAX_PARAMETERS * PARAMETER_BYTES;
}

/**
 * The parameters of a SETTINGS frame's payload in `bytes` from `start` to `end`, the last value of each. Throws `invalid_argument`, reason
 * `http2_frame_size_error`, `http2_protocol_error`, `http2_flow_control_error` or `http2_enhance_your_calm`.
 */
export function parseSettings(
  bytes: Buffer,
  { start, end }: { readonly start: number; readonly end: number },
): Settings {
  const length = end - start;
  if (length % PARAMETER_BYTES !== 0) throw http2Failure('frame_size_error', 'SETTINGS is cut off');
  if (length > MAX_PARAMETERS * PARAMETER_BYTES)
    throw http2Failure('enhance_your_calm', `SETTINGS has more than ${MAX_PARAMETERS} parameters`);
  const settings = new Map<number, number>();
  for (let at = start; at < end; at += PARAMETER_BYTES) {
    const value = bytes.readUInt32BE(at + 2);
    requireValid(bytes.readUInt16BE(at), value);
    settings.set(bytes.readUInt16BE(at), value);
  }
  return settings;
}

/** RFC 9113 6.5.2, RFC 8441 3. */
function requireValid(identifier: number, value: number): void {
  const isSwitch = identifier === SETTING.enablePush || identifier === SETTING.enableConnectProtocol;
  const isFrameSize = identifier === SETTING.maxFrameSize;
  if (
    (isSwitch && value > 1) ||
    (isFrameSize && (value < MIN_MAX_FRAME_BYTES || value > MAX_MAX_FRAME_BYTES))
  )
    throw http2Failure('protocol_error', 'SETTINGS have a value that may not be');
  if (identifier === SETTING.initialWindowSize && value > MAX_31_BITS)
    throw http2Failure('flow_control_error', 'SETTINGS ask for a window larger than 2^31-1');
}

/** A SETTINGS frame. */
export function encodeSettings(settings: Settings): Uint8Array {
  const payload = Buffer.alloc(settings.size * PARAMETER_BYTES);
  let at = 0;
  for (const [identifier, value] of settings) {
    payload.writeUInt16BE(identifier, at);
    payload.writeUInt32BE(value, at + 2);
    at += PARAMETER_BYTES;
  }
  return encodeFrame(FRAME.settings, 0, { payload });
}
