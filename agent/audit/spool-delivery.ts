import { unlinkSync } from 'node:fs';
import type { FramedBatch } from '../../shared/protocol/audit.ts';
import type { SegmentList } from './segment-list.ts';
import type { Segment } from './segment.ts';
import { SEGMENT_HEAD_BYTES } from './spool-frame.ts';
import { readFrames, type BatchLimit, type SegmentPosition } from './spool-reader.ts';

/**
 * How the server's answer fits to what is held. `known`: delivery goes on from there. `missing`: the server lacks records that are no longer held.
 * `ahead`: it claims more than was ever recorded here.
 */
export type Standing = 'known' | 'missing' | 'ahead';

/** The oldest records of a spool that the server has not acknowledged, to be sent. */
export interface SpoolBatch extends FramedBatch {
  readonly firstSequence: number;
  /** How many there are. */
  readonly count: number;
}

const NOWHERE: SegmentPosition = { segment: -1, sequence: 0, offset: 0 };

/** Hands out what a spool holds, oldest first, and removes what the server has. */
export class SpoolDelivery {
  readonly #segments: SegmentList;
  #acknowledged: number;
  /** What the server has, when records between that and the oldest one here are held by nobody. */
  #lacksAfter: number | undefined;
  #readFrom: SegmentPosition = NOWHERE;
  #lastRead: SegmentPosition = NOWHERE;

  constructor(segments: SegmentList) {
    this.#segments = segments;
    this.#acknowledged = segments.oldest.firstSequence - 1;
  }

  /** Records that the server has not acknowledged. */
  get depth(): number {
    const { oldest } = this.#segments;
    return this.#segments.countRecords() - (this.#acknowledged - oldest.firstSequence + 1);
  }

  /** As `Spool.readBatch`; of the active segment up to `syncedSequence`. */
  async readBatch(limit: BatchLimit, syncedSequence: () => number): Promise<SpoolBatch | undefined> {
    for (;;) {
      const { oldest, active } = this.#segments;
      const after = this.#acknowledged;
      const segment = this.#segments.findBehind(oldest.epoch, after);
      if (segment === undefined) return undefined;
      const to = segment === active ? syncedSequence() : segment.lastSequence;
      if (to <= after) return undefined;
      const from = this.#startOf(segment);
      const { frames, count, end } = await readFrames(segment.path, { from, after, to }, limit);
      this.#lastRead = end;
      if (count > 0)
        return {
          epoch: segment.epoch,
          frames,
          firstSequence: end.sequence - count + 1,
          count,
          ...this.#gap(),
        };
      this.#readFrom = end;
    }
  }

  /** As `Spool.acknowledge`. */
  acknowledge(epoch: string, sequence: number): Standing {
    const { oldest } = this.#segments;
    if (epoch !== oldest.epoch) return 'known';
    if (sequence > this.#segments.lastSequenceOf(epoch)) return 'ahead';
    const gone = oldest.firstSequence - 1;
    this.#lacksAfter = sequence < gone ? sequence : undefined;
    this.#acknowledged = Math.max(sequence, gone);
    if (this.#lastRead.sequence === this.#acknowledged) this.#readFrom = this.#lastRead;
    this.removeAcknowledged();
    return sequence < gone ? 'missing' : 'known';
  }

  /** Removes the segments that the server has whole, but for the one that is written. */
  removeAcknowledged(): void {
    const segments = this.#segments;
    while (segments.oldest !== segments.active && segments.oldest.lastSequence <= this.#acknowledged) {
      const removed = segments.removeOldest();
      unlinkSync(removed.path);
      const { epoch, firstSequence } = segments.oldest;
      if (epoch !== removed.epoch) this.#acknowledged = firstSequence - 1;
    }
  }

  /** The batch behind a gap begins with the oldest segment, whose head says what came before. */
  #gap(): Pick<FramedBatch, 'gap'> {
    if (this.#lacksAfter === undefined) return {};
    const { previousHash } = this.#segments.oldest;
    return { gap: { after: this.#lacksAfter, hash: Buffer.from(previousHash).toString('hex') } };
  }

  #startOf(segment: Segment): SegmentPosition {
    const known = this.#readFrom;
    if (known.segment === segment.number && known.sequence <= this.#acknowledged) return known;
    return { segment: segment.number, sequence: segment.firstSequence - 1, offset: SEGMENT_HEAD_BYTES };
  }
}
