import { closeSync, constants, fsyncSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { diskFull } from './disk-full.ts';
import { encodeSegmentHead, SEGMENT_HEAD_BYTES, type SegmentHead } from './spool-frame.ts';

/** A segment file of the spool and how far it goes. */
export interface Segment extends SegmentHead {
  /** Position among the segments; part of the file's name. */
  readonly number: number;
  readonly path: string;
  /** Bytes in the file, head included. */
  size: number;
  /** `firstSequence - 1` while it is empty. */
  lastSequence: number;
  lastHash: Uint8Array;
}

const SUFFIX = '.segment';

/** The file of the segment `number`. */
export function segmentPath(directory: string, number: number): string {
  return join(directory, `${number.toString().padStart(12, '0')}${SUFFIX}`);
}

/** The number in the name of a segment's file, or undefined when it is not one's. */
export function parseSegmentNumber(name: string): number | undefined {
  return /^\d{12}\.segment$/.test(name) ? Number(name.slice(0, -SUFFIX.length)) : undefined;
}

/**
 * Makes the file of a new segment, durably: it is there with its head, or not at all. Throws `resource_exhausted`, reason `spool_disk_full`,
 * or what the file system says.
 */
export function createSegment(directory: string, head: SegmentHead, number: number): Segment {
  const path = segmentPath(directory, number);
  const bytes = encodeSegmentHead(head);
  const fd = openSync(path, 'wx', 0o600);
  try {
    if (writeSync(fd, bytes) !== bytes.length) throw diskFull(path);
    fsyncSync(fd);
    syncDirectory(directory);
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    closeSync(fd);
  }
  return {
    ...head,
    number,
    path,
    size: SEGMENT_HEAD_BYTES,
    lastSequence: head.firstSequence - 1,
    lastHash: head.previousHash,
  };
}

function syncDirectory(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
