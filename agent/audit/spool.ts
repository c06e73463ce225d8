import type { AccessRecord } from '../../shared/protocol/audit.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { CrowdReport } from '../../shared/runtime/crowd-report.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { AccessRecorder } from './access-recorder.ts';
import { RecordBatch } from './record-batch.ts';
import { SegmentList } from './segment-list.ts';
import { SpoolDelivery, type SpoolBatch, type Standing } from './spool-delivery.ts';
import { encodeRecord, SEGMENT_HEAD_BYTES } from './spool-frame.ts';
import type { BatchLimit } from './spool-reader.ts';
import { recoverSegments } from './spool-recovery.ts';
import { SpoolReserve } from './spool-reserve.ts';
import { SpoolWriter, type SpoolRefusal } from './spool-writer.ts';

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
  /** Why the newest record was refused; absent when it was kept. */
  readonly refusing?: SpoolRefusal;
  /** Whether the server takes fewer records than there are, so that they wait here. */
  readonly isHeldBack: boolean;
}

const DEFAULT_SEGMENT_BYTES = 8 * 1024 * 1024;
const DEFAULT_GROUP_MS = 25;
/**
 * Of `maxBytes`, what denials may fill. Everybody can bring them about, as long ones as he likes and faster than they are shipped: he must not fill what is left to those who may do something. It is
 * more than a segment, which stays as long as it is written.
 */
const PART_OF_DENIALS = 0.75;

/**
 * The durable queue of access records. Records are appended with one write before what they stand for happens, so they survive the agent's death;
 * a power cut may take those of the last interval. Only records that reached the disk are handed out for shipping, so that a number that
 * the server has seen is never given to another record.
 */
export class Spool implements AccessRecorder {
  readonly #maxBytes: number;
  readonly #segments: SegmentList;
  readonly #reserve: SpoolReserve;
  readonly #writer: SpoolWriter;
  readonly #delivery: SpoolDelivery;
  readonly #listeners = new Set<() => void>();
  readonly #log: Log;
  readonly #denialsRefused: CrowdReport<'refused'>;
  /** What is added goes into this one. */
  #batch = new RecordBatch();
  #refused = 0;
  #refusing: SpoolRefusal | undefined;
  /** As `SpoolStatus`; whoever ships says so. */
  isHeldBack = false;

  /** Opens the spool of a directory, recovering what an earlier run left. Throws when the directory cannot be used. */
  constructor(options: SpoolOptions) {
    const { directory, maxBytes, durability, clock, log } = options;
    this.#maxBytes = maxBytes;
    this.#log = log;
    this.#denialsRefused = new CrowdReport({ event: 'audit_denials_refused', clock, log });
    this.#segments = new SegmentList(recoverSegments(directory, log));
    this.#delivery = new SpoolDelivery(this.#segments);
    this.#reserve = new SpoolReserve(directory, log);
    this.#writer = new SpoolWriter({
      directory,
      segments: this.#segments,
      reserve: this.#reserve,
      segmentBytes: options.segmentBytes ?? DEFAULT_SEGMENT_BYTES,
      maxBytes,
      durability,
      groupMs: options.groupMs ?? DEFAULT_GROUP_MS,
      onSynced: () => this.#tell(),
      clock,
      log,
    });
    this.#reserve.keep();
  }

  record(record: AccessRecord): boolean {
    if (record.decision === 'deny' && this.#segments.bytes > this.#maxBytes * PART_OF_DENIALS) {
      this.#refused += 1;
      this.#denialsRefused.note('refused', record.source);
      return false;
    }
    const batch = this.add(encodeRecord(record));
    this.commit();
    return batch?.isKept === true;
  }

  add(text: string): RecordBatch | undefined {
    if (this.#writer.isFull) this.commit();
    const refusal = this.#writer.add(text);
    if (refusal === undefined) return this.#batch;
    this.#refuse(refusal, 1);
    return undefined;
  }

  commit(): void {
    const { waiting } = this.#writer;
    if (waiting === 0) return;
    const batch = this.#batch;
    this.#batch = new RecordBatch();
    const refusal = this.#write();
    if (refusal === undefined) {
      batch.keep();
      if (this.#refusing !== undefined) this.#turn(undefined);
      return;
    }
    this.#writer.discard();
    this.#refuse(refusal, waiting);
  }

  get status(): SpoolStatus {
    const { epoch, lastSequence } = this.#segments.active;
    const { bytes } = this.#segments;
    const refusing = this.#refusing === undefined ? {} : { refusing: this.#refusing };
    const { isHeldBack } = this;
    const { depth } = this.#delivery;
    return { epoch, lastSequence, depth, bytes, refused: this.#refused, ...refusing, isHeldBack };
  }

  /** Calls `listener` when records became ready for shipping. */
  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The oldest records that are on disk and not acknowledged, or undefined when there are none. Rejects with `internal`, reason `spool_damaged`. */
  async readBatch(limit: BatchLimit): Promise<SpoolBatch | undefined> {
    return await this.#delivery.readBatch(limit, () => this.#writer.syncedSequence);
  }

  /**
   * The server has everything of `epoch` up to `sequence`: segments that it has whole are removed. A lower sequence than before, as after
   * a restore of the server, makes what is still held be shipped again; if records between are held no more (`missing`), the next batch tells of
   * the gap. A server that claims more than there is (`ahead`) is not believed: nothing is removed.
   */
  acknowledge(epoch: string, sequence: number): Standing {
    const standing = this.#delivery.acknowledge(epoch, sequence);
    this.#reserve.keep();
    return standing;
  }

  /** Puts everything on disk and closes the spool; later records are refused. */
  async close(): Promise<void> {
    this.commit();
    this.#writer.close();
  }

  #write(): SpoolRefusal | undefined {
    const refusal = this.#writer.commit();
    return refusal === 'disk_full' && this.#makeRoom() ? this.#writer.commit() : refusal;
  }

  #refuse(refusal: SpoolRefusal, records: number): void {
    this.#refused += records;
    if (refusal !== this.#refusing) this.#turn(refusal);
  }

  /** On a full disk the segment that is written goes as well, if the server has all of it. */
  #makeRoom(): boolean {
    const isEmpty = this.#segments.active.size === SEGMENT_HEAD_BYTES;
    if (isEmpty || this.#delivery.depth > 0 || this.#writer.startSegment() !== undefined) return false;
    this.#delivery.removeAcknowledged();
    this.#reserve.keep();
    return true;
  }

  /** Requests are refused from now on, or no more: said once, not for each of them. */
  #turn(refusal: SpoolRefusal | undefined): void {
    const { depth, bytes, refused } = this.status;
    this.#refusing = refusal;
    if (refusal === undefined) this.#log.info('audit_records_kept_again', { refused });
    else this.#log.error('audit_records_refused', { reason: refusal, depth, bytes });
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
