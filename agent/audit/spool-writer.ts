import { unlinkSync } from 'node:fs';
import { FRAME_HEAD_BYTES } from '../../shared/protocol/audit-frame.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { isDiskFull } from './disk-full.ts';
import { FrameBuffer } from './frame-buffer.ts';
import { SegmentFile } from './segment-file.ts';
import type { SegmentList } from './segment-list.ts';
import { createSegment, type Segment } from './segment.ts';
import type { SpoolReserve } from './spool-reserve.ts';
import { UnsyncedFrames } from './unsynced-frames.ts';

export interface SpoolWriterOptions {
  readonly directory: string;
  readonly segments: SegmentList;
  readonly reserve: SpoolReserve;
  readonly segmentBytes: number;
  readonly maxBytes: number;
  readonly durability: 'group' | 'sync';
  readonly groupMs: number;
  /** More records are on disk. */
  readonly onSynced: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Why a record is not kept: the spool has as many bytes as it may, the disk is full, the disk fails (the log says how) or the spool is closed, or the
 * record is longer than a record may be.
 */
export type SpoolRefusal = 'spool_full' | 'disk_full' | 'spool_failed' | 'record_too_long';

const REPAIR_MS = 1000;

/** Writes records behind the last one and brings them to disk: in groups, or each. */
export class SpoolWriter {
  readonly #options: SpoolWriterOptions;
  readonly #segments: SegmentList;
  #file: SegmentFile;
  readonly #waiting = new FrameBuffer();
  /** What was written behind the last fdatasync, to be written once more if that fails. */
  readonly #unsynced = new UnsyncedFrames();
  #syncedSequence: number;
  #isSyncing = false;
  #isFailed = false;
  #isClosed = false;
  #cancelTimer: (() => void) | undefined;

  /** Opens the active segment. Throws what the file system says. */
  constructor(options: SpoolWriterOptions) {
    this.#options = options;
    this.#segments = options.segments;
    this.#file = new SegmentFile(this.#segments.active.path);
    this.#syncedSequence = this.#segments.active.lastSequence;
  }

  /** The last record of the active segment that is on disk. */
  get syncedSequence(): number {
    return this.#syncedSequence;
  }

  /** How many records wait for `commit`. */
  get waiting(): number {
    return this.#waiting.count;
  }

  /** Whether `commit` is due before another record is added. */
  get isFull(): boolean {
    return this.#waiting.isFull;
  }

  /** Takes a record for the next write. Returns why it cannot be kept, undefined when it may be; never throws. */
  add(text: string): SpoolRefusal | undefined {
    if (this.#isFailed || this.#isClosed) return 'spool_failed';
    const waiting = this.#waiting;
    const bytes = waiting.length + FRAME_HEAD_BYTES + text.length;
    if (this.#segments.bytes + bytes > this.#options.maxBytes) return 'spool_full';
    const { lastSequence, lastHash } = this.#segments.active;
    const previousHash = waiting.count === 0 ? lastHash : waiting.lastHash;
    return waiting.add(lastSequence + waiting.count + 1, previousHash, text) ? undefined : 'record_too_long';
  }

  /** Appends the records that wait with one write. Returns why they cannot be kept, undefined when they are; they still wait then. Never throws. */
  commit(): SpoolRefusal | undefined {
    if (this.#isFailed || this.#isClosed) return 'spool_failed';
    const waiting = this.#waiting;
    if (waiting.count === 0) return undefined;
    const refusal = this.#roll() ?? this.#write(waiting.bytes);
    if (refusal !== undefined) return refusal;
    const { active } = this.#segments;
    active.lastSequence += waiting.count;
    active.lastHash = new Uint8Array(waiting.lastHash);
    this.#unsynced.push(active.lastSequence, waiting.bytes);
    waiting.clear();
    if (this.#options.durability === 'sync') return this.#syncNow() ? undefined : 'spool_failed';
    this.#scheduleSync();
    return undefined;
  }

  /** Forgets the records that wait. */
  discard(): void {
    this.#waiting.clear();
  }

  /** Goes on in a new segment, for which the reserve gives room. Returns why it cannot, undefined when it does. */
  startSegment(): SpoolRefusal | undefined {
    if (!this.#syncNow()) return 'spool_failed';
    try {
      this.#openNext();
      return undefined;
    } catch (error) {
      if (isDiskFull(error)) return this.#options.reserve.release() ? this.startSegment() : 'disk_full';
      this.#options.log.error('audit_segment_not_created', { error });
      return 'spool_failed';
    }
  }

  /** Puts everything on disk; later records are refused. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelTimer?.();
    if (!this.#isFailed) this.#file.syncNow();
    this.#syncedSequence = this.#segments.active.lastSequence;
    this.#file.close();
  }

  #write(bytes: Buffer): SpoolRefusal | undefined {
    try {
      if (!this.#file.append(bytes, this.#segments.active.size)) return 'disk_full';
    } catch (error) {
      this.#fail(error);
      return 'spool_failed';
    }
    this.#segments.grow(bytes.length);
    return undefined;
  }

  /** Starts a new segment when the active one is large enough. */
  #roll(): SpoolRefusal | undefined {
    if (this.#segments.active.size < this.#options.segmentBytes) return undefined;
    return this.startSegment();
  }

  #openNext(): void {
    const { epoch, number, lastSequence, lastHash } = this.#segments.active;
    const head = { epoch, firstSequence: lastSequence + 1, previousHash: lastHash };
    const segment = createSegment(this.#options.directory, head, number + 1);
    const file = openNew(segment);
    this.#segments.add(segment);
    this.#file.close();
    this.#file = file;
  }

  #syncNow(): boolean {
    try {
      this.#file.syncNow();
    } catch (error) {
      this.#fail(error);
      return false;
    }
    this.#synced(this.#segments.active.lastSequence);
    return true;
  }

  #scheduleSync(): void {
    if (this.#cancelTimer !== undefined || this.#isSyncing || this.#isFailed) return;
    this.#cancelTimer = this.#options.clock.schedule(this.#options.groupMs, () => {
      this.#cancelTimer = undefined;
      this.#startSync();
    });
  }

  #startSync(): void {
    const { active } = this.#segments;
    const { lastSequence } = active;
    this.#isSyncing = true;
    this.#file.sync((error) => {
      this.#isSyncing = false;
      if (this.#isClosed || this.#isFailed) return;
      if (error) return this.#fail(error);
      // A segment that was followed by another one in the meantime was synced then.
      if (active === this.#segments.active && lastSequence > this.#syncedSequence) this.#synced(lastSequence);
      if (!this.#unsynced.isEmpty) this.#scheduleSync();
    });
  }

  #synced(sequence: number): void {
    this.#unsynced.synced(sequence);
    if (sequence === this.#syncedSequence) return;
    this.#syncedSequence = sequence;
    this.#options.onSynced();
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
      const { bytes } = this.#unsynced;
      this.#file.rewriteFrom(this.#segments.active.size - bytes.length, bytes);
      this.#isFailed = false;
      this.#options.log.info('audit_spool_repaired');
      this.#synced(this.#segments.active.lastSequence);
    } catch (error) {
      this.#options.log.error('audit_spool_failed', { error });
      this.#options.clock.schedule(REPAIR_MS, () => this.#repair());
    }
  }
}

/** A segment that cannot be opened must not stand in the way of the next attempt. */
function openNew(segment: Segment): SegmentFile {
  try {
    return new SegmentFile(segment.path);
  } catch (error) {
    unlinkSync(segment.path);
    throw error;
  }
}
