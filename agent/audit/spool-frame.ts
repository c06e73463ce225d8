import { createHash } from 'node:crypto';
import { MAX_AUDIT_RECORD_BYTES, type AccessRecord } from '../../shared/protocol/audit.ts';

/**
 * The bytes of a spool segment. Numbers are big-endian.
 *
 * Segment head, 64 bytes:
 *
 *   | bytes | what                                            |
 *   |-------|-------------------------------------------------|
 *   | 8     | `PKSPOOL1`                                      |
 *   | 16    | epoch                                           |
 *   | 8     | sequence of the first record                    |
 *   | 32    | hash of the record before it, zeros at the start |
 *
 * Record frame:
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
export const SEGMENT_HEAD_BYTES = 64;
export const FRAME_HEAD_BYTES = 44;
export const HASH_BYTES = 32;
export const MAX_FRAME_BYTES = FRAME_HEAD_BYTES + MAX_AUDIT_RECORD_BYTES;

const TWO_TO_32 = 0x1_0000_0000;
const MAGIC = Buffer.from('PKSPOOL1');
const EPOCH_BYTES = 16;

/** What a segment says of itself. */
export interface SegmentHead {
  /** 32 hexadecimal digits. */
  readonly epoch: string;
  readonly firstSequence: number;
  readonly previousHash: Uint8Array;
}

/** A record as it stands in a segment. `end` is the offset behind its frame. */
export interface Frame {
  readonly sequence: number;
  readonly hash: Buffer;
  readonly text: string;
  readonly end: number;
}

export function encodeSegmentHead(head: SegmentHead): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEAD_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.write(head.epoch, MAGIC.length, EPOCH_BYTES, 'hex');
  bytes.writeBigUInt64BE(BigInt(head.firstSequence), 24);
  bytes.set(head.previousHash, 32);
  return bytes;
}

/** The head of a segment, or undefined when the bytes are none. */
export function decodeSegmentHead(bytes: Buffer): SegmentHead | undefined {
  if (bytes.length < SEGMENT_HEAD_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const firstSequence = Number(bytes.readBigUInt64BE(24));
  if (firstSequence < 1 || !Number.isSafeInteger(firstSequence)) return undefined;
  return {
    epoch: bytes.toString('hex', MAGIC.length, MAGIC.length + EPOCH_BYTES),
    firstSequence,
    previousHash: Uint8Array.from(bytes.subarray(32, SEGMENT_HEAD_BYTES)),
  };
}

/** SHA-256 over the previous hash and the text of a record. */
export function chainHash(previousHash: Uint8Array, text: Uint8Array): Buffer {
  return createHash('sha256').update(previousHash).update(text).digest();
}

/** The frame at `offset`, or undefined when a whole one with this sequence does not stand there. Does not check the chain. */
export function decodeFrame(bytes: Buffer, offset: number, sequence: number): Frame | undefined {
  if (offset + FRAME_HEAD_BYTES > bytes.length) return undefined;
  const length = bytes.readUInt32BE(offset);
  const end = offset + FRAME_HEAD_BYTES + length;
  if (length === 0 || length > MAX_AUDIT_RECORD_BYTES || end > bytes.length) return undefined;
  // A BigInt costs as much as all the rest.
  if (bytes.readUInt32BE(offset + 4) * TWO_TO_32 + bytes.readUInt32BE(offset + 8) !== sequence)
    return undefined;
  return {
    sequence,
    hash: bytes.subarray(offset + 12, offset + FRAME_HEAD_BYTES),
    text: bytes.toString('utf8', offset + FRAME_HEAD_BYTES, end),
    end,
  };
}

/** How much of a segment is whole and continues the chain. */
export interface SegmentScan {
  /** Offset behind the last good frame. */
  readonly goodBytes: number;
  /** Sequence of the last good record; one less than the first when there is none. */
  readonly lastSequence: number;
  readonly lastHash: Uint8Array;
}

/** Walks the frames of a segment up to the first that is torn or does not continue the chain. */
export function scanSegment(bytes: Buffer, head: SegmentHead): SegmentScan {
  let goodBytes = SEGMENT_HEAD_BYTES;
  let lastSequence = head.firstSequence - 1;
  let lastHash: Uint8Array = head.previousHash;
  for (;;) {
    const frame = decodeFrame(bytes, goodBytes, lastSequence + 1);
    if (frame === undefined) break;
    const text = bytes.subarray(goodBytes + FRAME_HEAD_BYTES, frame.end);
    if (!chainHash(lastHash, text).equals(frame.hash)) break;
    goodBytes = frame.end;
    lastSequence = frame.sequence;
    lastHash = Uint8Array.from(frame.hash);
  }
  return { goodBytes, lastSequence, lastHash };
}

const CUT_PATH_CHARACTERS = 2048;

/** The JSON text of a record. A path that would make it too long is cut, and ends in `…`; it may be too long even then. */
export function encodeRecord(record: AccessRecord): string {
  const text = JSON.stringify(record);
  if (Buffer.byteLength(text) <= MAX_AUDIT_RECORD_BYTES) return text;
  const path = record.path === null ? null : `${record.path.slice(0, CUT_PATH_CHARACTERS)}…`;
  return JSON.stringify({ ...record, path });
}
