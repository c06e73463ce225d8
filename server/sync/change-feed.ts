import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Datastore, Position } from '../datastore/datastore.ts';
import { readChanges, type ChangeBatch } from './change-reader.ts';

/** What a running stream hears: the next stretch of the log, or that what it has cannot be continued. */
export type FeedEvent = { readonly kind: 'batch'; readonly batch: ChangeBatch } | { readonly kind: 'broken' };

/** How long after the last look the log is looked at anyway: a wake-up can be lost with its connection before anyone notices. */
const POLL_MS = 10_000;

/**
 * Reads the change log once for all streams of this server, woken by the datastore. A failing database is tried again with growing
 * delays; the streams just wait meanwhile.
 */
export class ChangeFeed {
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #backoff: Backoff;
  readonly #listeners = new Set<(event: FeedEvent) => void>();
  #position: Position | undefined;
  #reading: Promise<void> | undefined;
  #isWoken = false;
  #isStopped = false;
  #endWakeUps = (): void => {};
  #endTimer = (): void => {};

  constructor(options: {
    readonly datastore: Datastore;
    readonly clock: Clock;
    readonly log: Log;
    readonly random: () => number;
  }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#backoff = new Backoff({ firstMs: 100, maxMs: POLL_MS, random: options.random });
  }

  /** Begins at the end of the log. */
  async start(): Promise<void> {
    this.#endWakeUps = this.#datastore.onChange(() => this.#wake());
    this.#position = await this.#datastore.position();
    this.#wake();
  }

  /** Ends reading; when this returns, no listener is called any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#endWakeUps();
    this.#endTimer();
    this.#listeners.clear();
    await this.#reading;
  }

  /** Hears of everything that is committed from now on; the returned function ends it. */
  subscribe(listener: (event: FeedEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #wake(): void {
    this.#isWoken = true;
    if (this.#isStopped || this.#position === undefined || this.#reading !== undefined) return;
    this.#endTimer();
    this.#reading = this.#readAll().finally(() => {
      this.#reading = undefined;
    });
  }

  async #readAll(): Promise<void> {
    let delayMs = POLL_MS;
    try {
      while (this.#isWoken && !this.#isStopped) {
        this.#isWoken = false;
        await this.#readToEnd();
      }
      this.#backoff.reset();
    } catch (error) {
      delayMs = this.#backoff.nextMs();
      this.#log.error('change_feed_failed', { error, retryMs: Math.round(delayMs) });
    }
    if (!this.#isStopped) this.#endTimer = this.#clock.schedule(delayMs, () => this.#wake());
  }

  async #readToEnd(): Promise<void> {
    for (let isLast = false; !isLast && !this.#isStopped;) {
      const position = this.#position;
      if (position === undefined) return;
      const batch = await readChanges(this.#datastore, position);
      if (batch === undefined) return await this.#beginAgain();
      this.#position = { epoch: position.epoch, sequence: batch.upTo };
      if (batch.changes.length > 0) this.#tell({ kind: 'batch', batch });
      ({ isLast } = batch);
    }
  }

  async #beginAgain(): Promise<void> {
    this.#position = await this.#datastore.position();
    this.#log.warn('change_feed_broken', { epoch: this.#position.epoch, sequence: this.#position.sequence });
    this.#tell({ kind: 'broken' });
  }

  #tell(event: FeedEvent): void {
    for (const listener of Array.from(this.#listeners)) listener(event);
  }
}
