import { open } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';
import { MAX_FRAME_BYTES } from '../../shared/protocol/audit-frame.ts';
import { findFrameEnd } from './spool-frame.ts';

/** A place between two frames of a segment: `sequence` is the record that ends there. */
export interface SegmentPosition {
  /** Number of the segment. */
  readonly segment: number;
  readonly sequence: number;
  readonly offset: number;
}

/** The most records, and roughly the most bytes of their frames, in one batch. */
export interface BatchLimit {
  readonly records: number;
  readonly bytes: number;
}

/** Frames as they stand in a segment, one behind the other. */
export interface FrameRun {
  readonly frames: Buffer;
  readonly count: number;
  /** Behind the last of them. */
  readonly end: SegmentPosition;
}

/**
 * Reads frames from `from` up to the record `to`, keeping those behind `after`. At least one frame is read. Only their borders are looked at: the chain was checked when the spool was opened, and the
 * server checks it again. Throws `internal`, reason `spool_damaged`, when the file does not hold the frame that must stand there.
 */
export async function readFrames(
  path: string,
  range: { readonly from: SegmentPosition; readonly after: number; readonly to: number },
  limit: BatchLimit,
): Promise<FrameRun> {
  const { from, after, to } = range;
  const bytes = await readRange(path, from.offset, limit.bytes + MAX_FRAME_BYTES);
  let { sequence } = from;
  let start = 0;
  let end = 0;
  while (sequence < to && sequence - after < limit.records && end - start < limit.bytes) {
    const next = findFrameEnd(bytes, end, sequence + 1);
    if (next === undefined) break;
    sequence += 1;
    end = next;
    if (sequence <= after) start = end;
  }
  if (sequence === from.sequence)
    throw new PicketError('internal', 'spool_damaged', `Record ${sequence + 1} is missing in ${path}`);
  return {
    frames: bytes.subarray(start, end),
    count: Math.max(0, sequence - after),
    end: { segment: from.segment, sequence, offset: from.offset + end },
  };
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
