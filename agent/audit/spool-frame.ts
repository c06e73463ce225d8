import { createHash } from 'node:crypto';
import { MAX_AUDIT_RECORD_BYTES, type AccessRecord } from '../../shared/protocol/audit.ts';
import { endOfFrame, FRAME_HEAD_BYTES, HASH_AT, sequenceOfFrame } from '../../shared/protocol/audit-frame.ts';

/**
 * The bytes of a spool segment: a head of 64 bytes and, behind it, frames. Numbers are big-endian.
 *
 *   | bytes | what                                            |
 *   |-------|-------------------------------------------------|
 *   | 8     | `PKSPOOL1`                                      |
 *   | 16    | epoch                                           |
 *   | 8     | sequence of the first record                    |
 *   | 32    | hash of the record before it, zeros at the start |
 */
export const SEGMENT_HEAD_BYTES = 64;

const MAGIC = Buffer.from('PKSPOOL1');
const EPOCH_BYTES = 16;

/** What a segment says of itself. */
export interface SegmentHead {
  /** 32 hexadecimal digits. */
  readonly epoch: string;
  readonly firstSequence: number;
  readonly previousHash: Uint8Array;
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

/** Where the frame of the record `sequence` ends that begins at `offset`; undefined when it does not stand there, or not all of it. Does not check the chain. */
export function findFrameEnd(bytes: Buffer, offset: number, sequence: number): number | undefined {
  const end = endOfFrame(bytes, offset);
  return end === undefined || sequenceOfFrame(bytes, offset) !== sequence ? undefined : end;
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
    const end = findFrameEnd(bytes, goodBytes, lastSequence + 1);
    if (end === undefined) break;
    const textAt = goodBytes + FRAME_HEAD_BYTES;
    const hash = bytes.subarray(goodBytes + HASH_AT, textAt);
    if (!chainHash(lastHash, bytes.subarray(textAt, end)).equals(hash)) break;
    goodBytes = end;
    lastSequence += 1;
    lastHash = hash;
  }
  return { goodBytes, lastSequence, lastHash: Uint8Array.from(lastHash) };
}

const CUT_PATH_CHARACTERS = 2048;

/** The JSON text of a record. A path that would make it too long is cut, and ends in `…`; it may be too long even then. */
export function encodeRecord(record: AccessRecord): string {
  const text = JSON.stringify(record);
  if (Buffer.byteLength(text) <= MAX_AUDIT_RECORD_BYTES) return text;
  const path = record.path === null ? null : `${record.path.slice(0, CUT_PATH_CHARACTERS)}…`;
  return JSON.stringify({ ...record, path });
}
