import { MAX_AUDIT_RECORD_BYTES } from './audit.ts';

/**
 * A record in a segment of an agent's spool, and on its way to the server. Numbers are big-endian.
 *
 *   | bytes | what                                                           |
 *   |-------|----------------------------------------------------------------|
 *   | 4     | length of the JSON text                                        |
 *   | 8     | sequence                                                       |
 *   | 32    | SHA-256 of the previous hash and the JSON text                  |
 *   | n     | the record as JSON text, exactly as the chain covers it         |
 *
 * The hash makes a torn or overwritten frame visible, so the frame needs no other checksum.
 */
export const FRAME_HEAD_BYTES = 44;
export const HASH_BYTES = 32;
export const HASH_AT = FRAME_HEAD_BYTES - HASH_BYTES;
export const MAX_FRAME_BYTES = FRAME_HEAD_BYTES + MAX_AUDIT_RECORD_BYTES;

const SEQUENCE_AT = 4;
const TWO_TO_32 = 0x1_0000_0000;

/** Where the frame at `offset` ends, or undefined when no whole one, of a length that a record may have, stands there. Looks at neither its number nor its hash. */
export function endOfFrame(bytes: Buffer, offset: number): number | undefined {
  if (offset + FRAME_HEAD_BYTES > bytes.length) return undefined;
  const length = bytes.readUInt32BE(offset);
  if (length === 0 || length > MAX_AUDIT_RECORD_BYTES) return undefined;
  const end = offset + FRAME_HEAD_BYTES + length;
  return end > bytes.length ? undefined : end;
}

/** The number in the head of the frame at `offset`; not exact beyond 2^53. */
export function sequenceOfFrame(bytes: Buffer, offset: number): number {
  // A BigInt costs as much as all the rest.
  const high = bytes.readUInt32BE(offset + SEQUENCE_AT);
  return high * TWO_TO_32 + bytes.readUInt32BE(offset + SEQUENCE_AT + 4);
}
