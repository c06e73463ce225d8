import type { Segment } from './segment.ts';

/** The segments of a spool, oldest first. There is always one: the last, which is written. */
export class SegmentList {
  readonly #segments: Segment[];
  #bytes: number;

  /** Takes `segments` over; there must be one. */
  constructor(segments: Segment[]) {
    this.#segments = segments;
    this.#bytes = segments.reduce((sum, segment) => sum + segment.size, 0);
  }

  get oldest(): Segment {
    return this.#segments[0] as Segment;
  }

  get active(): Segment {
    return this.#segments.at(-1) as Segment;
  }

  /** Bytes of all files. */
  get bytes(): number {
    return this.#bytes;
  }

  countRecords(): number {
    return this.#segments.reduce((sum, part) => sum + part.lastSequence - part.firstSequence + 1, 0);
  }

  /** The oldest segment that has records of `epoch` behind `sequence`. */
  findBehind(epoch: string, sequence: number): Segment | undefined {
    return this.#segments.find((segment) => segment.epoch === epoch && segment.lastSequence > sequence);
  }

  /** The number of the last record of `epoch`, 0 when there is no segment of it. */
  lastSequenceOf(epoch: string): number {
    return this.#segments.findLast((segment) => segment.epoch === epoch)?.lastSequence ?? 0;
  }

  /** The active segment grew. */
  grow(bytes: number): void {
    this.active.size += bytes;
    this.#bytes += bytes;
  }

  add(segment: Segment): void {
    this.#segments.push(segment);
    this.#bytes += segment.size;
  }

  /** Takes the oldest segment out; its file is the caller's. */
  removeOldest(): Segment {
    const removed = this.#segments.shift() as Segment;
    this.#bytes -= removed.size;
    return removed;
  }
}
