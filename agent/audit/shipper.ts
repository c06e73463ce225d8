import { PicketError } from '../../shared/errors/errors.ts';
import { MAX_AUDIT_BATCH, type AuditAnswer, type FramedBatch } from '../../shared/protocol/audit.ts';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { SpoolBatch } from './spool-delivery.ts';
import type { Spool } from './spool.ts';

export interface ShipperOptions {
  readonly spool: Spool;
  /** POST /v1/audit/frames. */
  readonly send: (batch: FramedBatch) => Promise<AuditAnswer>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

/**
 * Frames of a batch in bytes: well below what the server reads. As many records as a batch may have are mostly a little less; so much is read from the spool for each, and what is not
 * used of it is read in vain.
 */
const BATCH_BYTES = 512 * 1024;
/** What comes in this time, in milliseconds, goes together: a batch has a price of its own, and one for each fdatasync was a twentieth of the agents' CPU under four clients. */
const GATHER_MS = 100;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** At most so long the server's word is taken: it may have another one since. */
const MAX_HELD_BACK_MS = 5 * 60_000;

/**
 * Ships what the spool holds, oldest first, one batch at a time, and goes on where the server says it is. What a restored server lacks and the
 * spool has no more is told to it as a gap. Through an outage everything stays
 * in the spool. Stopping does not wait for the rest: the next start ships it.
 */
export function startShipper(options: ShipperOptions): Shipper {
  return new SpoolShipper(options);
}

export interface Shipper extends Running {
  /** Stops at once, whatever is on its way: the spool is touched no more. What the server gets twice it knows by its number. */
  abandon(): void;
}

class SpoolShipper implements Shipper {
  readonly #options: ShipperOptions;
  readonly #backoff: Backoff;
  readonly #unwatch: () => void;
  #isStopped = false;
  #isWanted = false;
  #work: Promise<void> | undefined;
  #cancelPause: (() => void) | undefined;

  constructor(options: ShipperOptions) {
    this.#options = options;
    this.#backoff = new Backoff({ firstMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS, random: options.random });
    this.#unwatch = options.spool.watch(() => this.#wake());
    this.#wake();
  }

  abandon(): void {
    this.#isStopped = true;
    this.#unwatch();
    this.#cancelPause?.();
  }

  async stop(): Promise<void> {
    this.abandon();
    await this.#work;
  }

  #wake(): void {
    if (this.#isStopped || this.#cancelPause !== undefined) return;
    this.#isWanted = true;
    this.#work ??= this.#run();
  }

  /** Records that become ready while the last look at the spool is under way set the mark again, so that none waits for the next one. */
  async #run(): Promise<void> {
    while (this.#isWanted && !this.#isStopped && this.#cancelPause === undefined) {
      this.#isWanted = false;
      await this.#ship();
    }
    this.#work = undefined;
  }

  async #ship(): Promise<void> {
    const { spool, log } = this.#options;
    try {
      while (!this.#isStopped) {
        const batch = await spool.readBatch({ records: MAX_AUDIT_BATCH, bytes: BATCH_BYTES });
        if (batch === undefined) return this.#letGo();
        await this.#sendBatch(batch);
        if (isSmall(batch)) return this.#gather();
      }
    } catch (error) {
      if (this.#isStopped) return;
      const heldBackMs = findHeldBackMs(error);
      if (heldBackMs !== undefined) return this.#holdBack(heldBackMs, error);
      const delayMs = this.#backoff.nextMs();
      log.warn('audit_shipping_failed', { error, retry_ms: Math.round(delayMs), depth: spool.status.depth });
      this.#pause(delayMs);
    }
  }

  async #sendBatch(batch: SpoolBatch): Promise<void> {
    const { spool, send, log } = this.#options;
    const before = batch.firstSequence - 1;
    const answer = await send(batch);
    if (this.#isStopped) return;
    if (answer.epoch !== batch.epoch) throw new Error(`The server answered for epoch ${answer.epoch}`);
    const standing = spool.acknowledge(batch.epoch, answer.sequence);
    if (standing === 'ahead')
      throw new Error(
        `The server has record ${answer.sequence} of a spool that ends at ${spool.status.lastSequence}`,
      );
    if (standing === 'missing' && batch.gap === undefined) {
      const { epoch } = batch;
      // The next batch tells the server of the gap.
      return log.error('audit_records_missing', { epoch, server_has: answer.sequence, held_after: before });
    }
    if (answer.sequence <= before)
      throw new Error(`The server still has only ${answer.sequence} of ${before}`);
    this.#backoff.reset();
  }

  #gather(): void {
    this.#letGo();
    this.#pause(GATHER_MS);
  }

  /** There are more records than the server takes of this host: they wait. Said once, until there are none left that wait. */
  #holdBack(forMs: number, error: unknown): void {
    const { spool, log } = this.#options;
    if (!spool.isHeldBack) log.warn('audit_held_back', { error, depth: spool.status.depth });
    spool.isHeldBack = true;
    this.#pause(forMs);
  }

  #letGo(): void {
    const { spool, log } = this.#options;
    if (spool.isHeldBack) log.info('audit_held_back_no_more');
    spool.isHeldBack = false;
  }

  /** What becomes ready meanwhile waits. */
  #pause(delayMs: number): void {
    if (this.#isStopped) return;
    this.#cancelPause = this.#options.clock.schedule(delayMs, () => {
      this.#cancelPause = undefined;
      this.#wake();
    });
  }
}

/** How long the server wants nothing of this host, if that is why it refused. */
function findHeldBackMs(error: unknown): number | undefined {
  if (!(error instanceof PicketError) || error.reason !== 'audit_held_back') return undefined;
  const forMs = error.details?.['retry_after_ms'];
  return typeof forMs === 'number' ? Math.min(Math.max(forMs, GATHER_MS), MAX_HELD_BACK_MS) : undefined;
}

/** Whether waiting for more would save something. */
function isSmall({ count, frames }: SpoolBatch): boolean {
  return count < MAX_AUDIT_BATCH && frames.length < BATCH_BYTES / 2;
}
