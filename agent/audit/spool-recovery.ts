import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';
import { HASH_BYTES, MAX_FRAME_BYTES } from '../../shared/protocol/audit-frame.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { createSegment, parseSegmentNumber, segmentPath, type Segment } from './segment.ts';
import { decodeSegmentHead, scanSegment, SEGMENT_HEAD_BYTES, type SegmentHead } from './spool-frame.ts';

/**
 * Reads back what an earlier run left. A torn end, all that a killed process or a power cut can leave, is cut off. Damage in the middle is
 * kept aside as `*.damaged`, together with what followed it in the same epoch, and logged as an error: those records cannot be chained any more.
 * The whole spool is read and hashed, about a second for a gigabyte.
 */
export function recoverSegments(directory: string, log: Log): Segment[] {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if ((statSync(directory).mode & 0o077) !== 0)
    throw new PicketError(
      'failed_precondition',
      'spool_permissions',
      `Cannot use ${directory}: others may enter it`,
    );
  const numbers = listSegmentNumbers(directory);
  const segments: Segment[] = [];
  const damagedEpochs = new Set<string>();
  for (const number of numbers) {
    const isLast = number === numbers.at(-1);
    const segment = recoverSegment(directory, {
      number,
      isLast,
      before: segments.at(-1),
      damagedEpochs,
      log,
    });
    if (segment !== undefined) segments.push(segment);
  }
  const last = segments.at(-1);
  if (last === undefined || damagedEpochs.has(last.epoch))
    segments.push(createSegment(directory, firstOfEpoch(), (numbers.at(-1) ?? 0) + 1));
  return segments;
}

function firstOfEpoch(): SegmentHead {
  return {
    epoch: randomBytes(16).toString('hex'),
    firstSequence: 1,
    previousHash: new Uint8Array(HASH_BYTES),
  };
}

interface RecoveryContext {
  readonly number: number;
  readonly isLast: boolean;
  readonly before: Segment | undefined;
  readonly damagedEpochs: Set<string>;
  readonly log: Log;
}

function recoverSegment(directory: string, context: RecoveryContext): Segment | undefined {
  const { number, isLast, before, damagedEpochs, log } = context;
  const path = segmentPath(directory, number);
  const bytes = readFileSync(path);
  const head = decodeSegmentHead(bytes);
  if (head === undefined && isLast && bytes.length <= SEGMENT_HEAD_BYTES) {
    unlinkSync(path);
    return undefined;
  }
  if (head === undefined || damagedEpochs.has(head.epoch) || !follows(before, head)) {
    renameSync(path, `${path}.damaged`);
    damagedEpochs.add(head?.epoch ?? before?.epoch ?? '');
    log.error('audit_segment_damaged', { path, kept: `${path}.damaged` });
    return undefined;
  }
  const scan = scanSegment(bytes, head);
  if (scan.goodBytes < bytes.length) {
    cutTail(path, bytes.subarray(scan.goodBytes), scan.goodBytes, log);
    if (!isLast) damagedEpochs.add(head.epoch);
  }
  const { lastSequence, lastHash, goodBytes } = scan;
  return { ...head, number, path, size: goodBytes, lastSequence, lastHash };
}

function follows(before: Segment | undefined, head: SegmentHead): boolean {
  if (before === undefined || before.epoch !== head.epoch) return true;
  return (
    head.firstSequence === before.lastSequence + 1 && Buffer.from(before.lastHash).equals(head.previousHash)
  );
}

/** A kill leaves at most one torn frame, which was never reported as recorded. Whatever is longer is kept for people to look at. */
function cutTail(path: string, tail: Buffer, goodBytes: number, log: Log): void {
  if (tail.length >= MAX_FRAME_BYTES) {
    writeFileSync(`${path}.damaged`, tail, { mode: 0o600 });
    log.error('audit_segment_damaged', { path, bytes: tail.length, kept: `${path}.damaged` });
  } else {
    log.warn('audit_torn_record_cut', { path, bytes: tail.length });
  }
  truncateSync(path, goodBytes);
}

function listSegmentNumbers(directory: string): number[] {
  return readdirSync(directory)
    .map(parseSegmentNumber)
    .filter((number) => number !== undefined)
    .sort((a, b) => a - b);
}
