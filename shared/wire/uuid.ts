import { PicketError } from '../errors/errors.ts';

/** Bytes of a UUID (RFC 9562). */
export const UUID_BYTES = 16;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const DASH = 0x2d;
const FIRST_DIGIT = 0x30;
const FIRST_LETTER = 0x61;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** The 16 bytes of a UUID in lower-case text. Throws `invalid_argument`, reason `uuid_invalid`. */
export function encodeUuid(text: string): Uint8Array {
  if (!UUID.test(text))
    throw new PicketError('invalid_argument', 'uuid_invalid', `Cannot read UUID "${text.slice(0, 60)}"`);
  const bytes = new Uint8Array(UUID_BYTES);
  for (let at = 0, i = 0; i < UUID_BYTES; at += 2, i++) {
    if (text.charCodeAt(at) === DASH) at++;
    bytes[i] = (digitAt(text, at) << 4) | digitAt(text, at + 1);
  }
  return bytes;
}

/** The value of a lower-case hexadecimal digit. */
function digitAt(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return code < FIRST_LETTER ? code - FIRST_DIGIT : code - FIRST_LETTER + 10;
}

/** The lower-case text of the UUID that stands in `bytes` from `start` on. RangeError when fewer than 16 bytes are there. */
export function decodeUuid(bytes: Uint8Array, start = 0): string {
  if (start < 0 || start + UUID_BYTES > bytes.length)
    throw new RangeError(`Cannot read a UUID at ${start} of ${bytes.length}`);
  let text = '';
  for (let i = 0; i < UUID_BYTES; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) text += '-';
    text += HEX[bytes[start + i] ?? 0];
  }
  return text;
}
