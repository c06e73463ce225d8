import { closeSync, fdatasync, fdatasyncSync, ftruncateSync, openSync, unlinkSync, writeSync } from 'node:fs';
import type { AccessRecord, AuditBatch } from '../../shared/protocol/audit.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { AccessRecorder } from './access-recorder.ts';
import { encodeFrame, encodeRecord, SEGMENT_HEAD_BYTES } from './spool-frame.ts';
import { readFrames, type BatchLimit, type SegmentPosition } from './spool-reader.ts';
import { createSegment, recoverSegments, type Segment } from './spool-recovery.ts';

export interface SpoolOptions {
  readonly directory: string;
  /** Bytes on disk beyond which records are refused. */
  readonly maxBytes: number;
  /** A segment of at least this size is followed by a new one. */
  readonly segmentBytes?: number;
  /** `group`: fdatasync for all records of an interval; `sync`: before each `record` returns. */
  readonly durability: 'group' | 'sync';
  /** Longest time that a record waits for its fdatasync, milliseconds. */
  readonly groupMs?: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** How the spool stands, for metrics and status. */
export interface SpoolStatus {
  readonly epoch: string;
  readonly lastSequence: number;
  /** Records that the server has not acknowledged. */
  readonly depth: number;
  readonly bytes: number;
  /** Records refused since start. */
  readonly refused: number;
}

const DEFAULT_SEGMENT_BYTES = 8 * 1024 * 1024;
const DEFAULT_GROUP_MS = 25;
const REPAIR_MS = 1000;
/** From this part of `maxBytes` on, callers are slowed down. */
const SLOW_FROM = 0.9;
const MAX_DELAY_MS = 200;
const NOWHERE: SegmentPosition = { segment: -1, sequence: 0, offset: 0 };

/**
 * The durable queue of access records (design: decision 14). `record` appends with one write, so a record survives the agent's death;
 * a power cut may take those of the last interval. Only records that reached the disk are handed out for shipping, so that a number that
 * the server has seen is never given to another record.
 */
export class Spool implements AccessRecorder {
  readonly #options: SpoolOptions;
  readonly #segments: Segment[];
  readonly #listeners = new Set<() => void>();
  #active: Segment;
  #fd: number;
  #bytes: number;
  #refused = 0;
  /** Frames behind the last fdatasync: written once more if that fails. */
  #unsynced: Buffer[] = [];
  #syncedSequence: number;
  /** The descriptor under an asynchronous fdatasync. Its number must not be reused before that is done, so its completion closes it. */
  #syncingFd: number | undefined;
  #isFailed = false;
  #isClosed = false;
  #cancelTimer: (() => void) | undefined;
  #acknowledged: number;
  #readFrom: SegmentPosition = NOWHERE;
  #lastRead: SegmentPosition = NOWHERE;

  /** Opens the spool of a directory, recovering what an earlier run left. Throws when the directory cannot be used. */
  constructor(options: SpoolOptions) {
    this.#options = options;
    this.#segments = recoverSegments(options.directory, options.log);
    this.#active = this.#segments.at(-1) as Segment;
    this.#fd = openSync(this.#active.path, 'a');
    fdatasyncSync(this.#fd);
    this.#bytes = this.#segments.reduce((sum, segment) => sum + segment.size, 0);
    this.#syncedSequence = this.#active.lastSequence;
    this.#acknowledged = this.#oldest.firstSequence - 1;
  }

  record(record: AccessRecord): boolean {
    const isKept = !this.#isFailed && !this.#isClosed && this.#append(record);
    if (!isKept) this.#refused++;
    return isKept;
  }

  /** How long, in milliseconds, a caller should wait before it takes on more work: 0 unless the spool is nearly full. */
  delayMs(): number {
    const over = this.#bytes / this.#options.maxBytes - SLOW_FROM;
    return over <= 0 ? 0 : Math.min(MAX_DELAY_MS, (over / (1 - SLOW_FROM)) * MAX_DELAY_MS);
  }

  get status(): SpoolStatus {
    const held = this.#segments.reduce((sum, part) => sum + part.lastSequence - part.firstSequence + 1, 0);
    return {
      epoch: this.#active.epoch,
      lastSequence: this.#active.lastSequence,
      depth: held - (this.#acknowledged - this.#oldest.firstSequence + 1),
      bytes: this.#bytes,
      refused: this.#refused,
    };
  }

  /** Calls `listener` when records became ready for shipping. */
  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The oldest records that are on disk and not acknowledged, or undefined when there are none. Rejects with `internal`, reason `spool_damaged`. */
  async readBatch(limit: BatchLimit): Promise<AuditBatch | undefined> {
    for (;;) {
      const segment = this.#findUnacknowledged();
      if (segment === undefined) return undefined;
      const after = this.#acknowledged;
      const to = segment === this.#active ? this.#syncedSequence : segment.lastSequence;
      if (to <= after) return undefined;
      const from = this.#startOf(segment);
      const { records, end } = await readFrames(segment.path, { from, after, to }, limit);
      this.#lastRead = end;
      if (records.length > 0) return { epoch: segment.epoch, records };
      this.#readFrom = end;
    }
  }

  /**
   * The server has everything of `epoch` up to `sequence`: segments that it has whole are removed. A lower sequence than before, as after
   * a restore of the server, makes what is still held be shipped again. Returns false when the server lacks records that are no longer held,
   * or claims more than there is.
   */
  acknowledge(epoch: string, sequence: number): boolean {
    const oldest = this.#oldest;
    if (epoch !== oldest.epoch) return true;
    const last = this.#segments.findLast((segment) => segment.epoch === epoch)?.lastSequence ?? 0;
    const isKnown = sequence >= oldest.firstSequence - 1 && sequence <= last;
    this.#acknowledged = Math.min(Math.max(sequence, oldest.firstSequence - 1), last);
    if (this.#lastRead.sequence === this.#acknowledged) this.#readFrom = this.#lastRead;
    while (this.#oldest !== this.#active && this.#oldest.lastSequence <= this.#acknowledged)
      this.#removeOldest();
    return isKnown;
  }

  /** Puts everything on disk and closes the spool; later records are refused. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelTimer?.();
    if (!this.#isFailed) fdatasyncSync(this.#fd);
    this.#syncedSequence = this.#active.lastSequence;
    if (this.#syncingFd !== this.#fd) closeSync(this.#fd);
  }

  get #oldest(): Segment {
    return this.#segments[0] as Segment;
  }

  #append(record: AccessRecord): boolean {
    const text = encodeRecord(record);
    if (text === undefined) return false;
    const sequence = this.#active.lastSequence + 1;
    const frame = encodeFrame(sequence, this.#active.lastHash, text);
    if (this.#bytes + frame.bytes.length > this.#options.maxBytes) return false;
    if (!this.#roll() || !this.#write(frame.bytes)) return false;
    this.#active.lastSequence = sequence;
    this.#active.lastHash = frame.hash;
    this.#unsynced.push(frame.bytes);
    if (this.#options.durability === 'sync') return this.#syncNow();
    this.#scheduleSync();
    return true;
  }

  /** One write. What a full disk took of it is cut off again, so that the next record stands where this one would have. */
  #write(bytes: Buffer): boolean {
    const active = this.#active;
    let written = 0;
    try {
      written = writeSync(this.#fd, bytes);
    } catch {
      written = 0;
    }
    if (written === bytes.length) {
      active.size += written;
      this.#bytes += written;
      return true;
    }
    try {
      ftruncateSync(this.#fd, active.size);
    } catch (error) {
      this.#fail(error);
    }
    return false;
  }

  /** Starts a new segment when the active one is large enough. */
  #roll(): boolean {
    const active = this.#active;
    if (active.size < (this.#options.segmentBytes ?? DEFAULT_SEGMENT_BYTES)) return true;
    if (!this.#syncNow()) return false;
    try {
      this.#activate(this.#createNext(active.lastSequence + 1, active.lastHash));
      return true;
    } catch (error) {
      this.#options.log.error('audit_segment_not_created', { error });
      return false;
    }
  }

  #createNext(firstSequence: number, previousHash: Uint8Array): Segment {
    const { epoch, number } = this.#active;
    return createSegment(this.#options.directory, { epoch, firstSequence, previousHash }, number + 1);
  }

  #activate(segment: Segment): void {
    const fd = openSync(segment.path, 'a');
    const previous = this.#fd;
    this.#segments.push(segment);
    this.#active = segment;
    this.#fd = fd;
    this.#bytes += segment.size;
    if (this.#syncingFd !== previous) closeSync(previous);
  }

  #syncNow(): boolean {
    try {
      fdatasyncSync(this.#fd);
    } catch (error) {
      this.#fail(error);
      return false;
    }
    this.#synced(this.#active.lastSequence, this.#unsynced.length);
    return true;
  }

  #scheduleSync(): void {
    if (this.#cancelTimer !== undefined || this.#syncingFd !== undefined || this.#isFailed) return;
    this.#cancelTimer = this.#options.clock.schedule(this.#options.groupMs ?? DEFAULT_GROUP_MS, () => {
      this.#cancelTimer = undefined;
      this.#startSync();
    });
  }

  #startSync(): void {
    const fd = this.#fd;
    const segment = this.#active;
    const { lastSequence } = segment;
    this.#syncingFd = fd;
    fdatasync(fd, (error) => {
      this.#syncingFd = undefined;
      if (fd !== this.#fd || this.#isClosed) closeSync(fd);
      if (this.#isClosed || this.#isFailed) return;
      if (error) return this.#fail(error);
      if (segment === this.#active && lastSequence > this.#syncedSequence)
        this.#synced(lastSequence, lastSequence - this.#syncedSequence);
      if (this.#unsynced.length > 0) this.#scheduleSync();
    });
  }

  #synced(sequence: number, frames: number): void {
    this.#unsynced.splice(0, frames);
    if (sequence === this.#syncedSequence) return;
    this.#syncedSequence = sequence;
    for (const listener of this.#listeners) listener();
  }

  /** After a failed write-back the kernel may have thrown pages away: nothing is taken until the last records were written once more. */
  #fail(error: unknown): void {
    if (this.#isFailed) return;
    this.#isFailed = true;
    this.#options.log.error('audit_spool_failed', { error });
    this.#options.clock.schedule(REPAIR_MS, () => this.#repair());
  }

  #repair(): void {
    if (this.#isClosed) return;
    try {
      this.#rewriteUnsynced();
      this.#isFailed = false;
      this.#options.log.info('audit_spool_repaired');
      this.#synced(this.#active.lastSequence, this.#unsynced.length);
    } catch (error) {
      this.#options.log.error('audit_spool_failed', { error });
      this.#options.clock.schedule(REPAIR_MS, () => this.#repair());
    }
  }

  #rewriteUnsynced(): void {
    const lost = this.#active;
    const size = lost.size - this.#unsynced.reduce((sum, frame) => sum + frame.length, 0);
    ftruncateSync(this.#fd, size);
    const bytes = Buffer.concat(this.#unsynced);
    if (bytes.length > 0 && writeSync(this.#fd, bytes) !== bytes.length)
      throw new Error(`Cannot write ${bytes.length} bytes to ${lost.path}`);
    fdatasyncSync(this.#fd);
  }

  #findUnacknowledged(): Segment | undefined {
    return this.#segments.find(
      (segment) => segment.epoch === this.#oldest.epoch && segment.lastSequence > this.#acknowledged,
    );
  }

  #startOf(segment: Segment): SegmentPosition {
    const known = this.#readFrom;
    if (known.segment === segment.number && known.sequence <= this.#acknowledged) return known;
    return { segment: segment.number, sequence: segment.firstSequence - 1, offset: SEGMENT_HEAD_BYTES };
  }

  #removeOldest(): void {
    const removed = this.#segments.shift() as Segment;
    this.#bytes -= removed.size;
    unlinkSync(removed.path);
    const { epoch, firstSequence } = this.#oldest;
    if (epoch !== removed.epoch) this.#acknowledged = firstSequence - 1;
  }
}
