import { open } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';
import type { AuditBatch } from '../../shared/protocol/audit.ts';
import { decodeFrame, MAX_FRAME_BYTES } from './spool-frame.ts';

/** A place between two frames of a segment: `sequence` is the record that ends there. */
export interface SegmentPosition {
  /** Number of the segment. */
  readonly segment: number;
  readonly sequence: number;
  readonly offset: number;
}

/** The most records, and roughly the most bytes of their text, in one batch. */
export interface BatchLimit {
  readonly records: number;
  readonly bytes: number;
}

/**
 * Reads frames from `from` up to the record `to`, keeping those behind `after`. At least one frame is read. Throws `internal`, reason
 * `spool_damaged`, when the file does not hold the frame that must stand there.
 */
export async function readFrames(
  path: string,
  range: { readonly from: SegmentPosition; readonly after: number; readonly to: number },
  limit: BatchLimit,
): Promise<{ readonly records: AuditBatch['records']; readonly end: SegmentPosition }> {
  const { from, after, to } = range;
  const bytes = await readRange(path, from.offset, limit.bytes + MAX_FRAME_BYTES);
  const records: AuditBatch['records'] = [];
  let { sequence, offset } = from;
  let size = 0;
  while (sequence < to && records.length < limit.records && size < limit.bytes) {
    const frame = decodeFrame(bytes, offset - from.offset, sequence + 1);
    if (frame === undefined) break;
    offset = from.offset + frame.end;
    sequence = frame.sequence;
    if (sequence <= after) continue;
    size += frame.text.length;
    records.push({ sequence, hash: frame.hash.toString('hex'), record: frame.text });
  }
  if (sequence === from.sequence)
    throw new PicketError('internal', 'spool_damaged', `Record ${sequence + 1} is missing in ${path}`);
  return { records, end: { segment: from.segment, sequence, offset } };
}

async function readRange(path: string, offset: number, maxBytes: number): Promise<Buffer> {
  const handle = await open(path, 'r');
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(maxBytes), 0, maxBytes, offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
