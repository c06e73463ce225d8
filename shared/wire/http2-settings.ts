import { http2Failure } from './http2-error.ts';
import { encodeFrame, FRAME } from './http2-frame.ts';

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
/** More parameters than anybody has. */
const MAX_PARAMETERS = 64;

/** Whether a SETTINGS frame may have so long a payload. */
export function isSettingsLength(length: number): boolean {
  return length % PARAMETER_BYTES === 0 && length <= MAX_PARAMETERS * PARAMETER_BYTES;
}

/**
 * The parameters of a SETTINGS frame's payload in `bytes` from `start` to `end`, the last value of each. Throws `invalid_argument`, reason
 * `http2_frame_size_error` or `http2_enhance_your_calm`.
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
  for (let at = start; at < end; at += PARAMETER_BYTES)
    settings.set(bytes.readUInt16BE(at), bytes.readUInt32BE(at + 2));
  return settings;
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
