import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';

/** What is worth keeping is written down this long after it changed, so that changes that come together are written once. */
const KEEP_AFTER_MS = 1000;
/** A disk that did not take it is tried again after this long. */
export const KEEP_AGAIN_MS = 10_000;

/** What metrics want to know. */
export interface StateObserver {
  /** The disk did not take the state. */
  unkept(what: 'state'): void;
}

export interface StateKeeperOptions {
  readonly write: () => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer?: StateObserver;
}

/** Writes the state down soon after it changed, one writing after another. */
export class StateKeeper {
  readonly #write: () => Promise<void>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #observer: StateObserver | undefined;
  #cancel: (() => void) | undefined;
  /** Defined while a disk that did not take it is to be tried again. */
  #cancelRetry: (() => void) | undefined;
  #last: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: StateKeeperOptions) {
    this.#write = options.write;
    this.#observer = options.observer;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** The state changed; what is urgent must not be forgotten by whoever kills the agent in the next second. */
  changed({ isUrgent = false }: { readonly isUrgent?: boolean } = {}): void {
    if (this.#isClosed) return;
    this.#giveUpRetry();
    if (isUrgent) {
      this.#cancel?.();
      this.#cancel = undefined;
      return this.#enqueue();
    }
    this.#cancel ??= this.#clock.schedule(KEEP_AFTER_MS, () => {
      this.#cancel = undefined;
      this.#enqueue();
    });
  }

  /** Writes what changed and was not written yet; nothing is written after that. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.flush();
  }

  /** Writes what changed and was not written yet. */
  async flush(): Promise<void> {
    if (this.#cancel !== undefined || this.#cancelRetry !== undefined) {
      this.#cancel?.();
      this.#cancel = undefined;
      this.#giveUpRetry();
      this.#enqueue();
    }
    await this.#last;
  }

  #enqueue(): void {
    this.#last = this.#last.then(async () => await this.#keep());
  }

  /** What cannot be kept is in force all the same: only a restart would miss it. */
  async #keep(): Promise<void> {
    try {
      await this.#write();
    } catch (error) {
      this.#log.error('state_not_kept', { error });
      this.#observer?.unkept('state');
      if (!this.#isClosed) this.#cancelRetry ??= this.#clock.schedule(KEEP_AGAIN_MS, () => this.changed());
    }
  }

  #giveUpRetry(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
  }
}
