import { toPicketError } from '../../shared/errors/errors.ts';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';

/** Rules in the kernel that one process at a time writes and watches. */
export interface KeptRules {
  /** The rules stay, and nobody watches them. */
  letGo(): Promise<void>;
  /** Keeps them again. Never rejects. */
  takeUp(): Promise<void>;
}

export interface KeptCaptureOptions {
  /** Starts what keeps the capture rules; undefined where nobody does. */
  readonly start: (() => Promise<Running>) | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

const RETRY = { firstMs: 250, maxMs: 10_000 };

/** What keeps the capture rules, as something that is let go of for a successor and taken up again. Whoever has taken it up again does not give up until it runs. */
export class KeptCapture implements KeptRules {
  readonly #options: KeptCaptureOptions;
  readonly #backoff: Backoff;
  #running: Running | undefined;
  #starting: Promise<void> = Promise.resolve();
  #cancelRetry: () => void = () => undefined;
  #isWanted = true;

  /** `running` is the keeper that runs. */
  constructor(options: KeptCaptureOptions, running: Running | undefined) {
    this.#options = options;
    this.#running = running;
    this.#backoff = new Backoff({ ...RETRY, random: options.random });
  }

  async letGo(): Promise<void> {
    this.#isWanted = false;
    this.#cancelRetry();
    await this.#starting;
    const running = this.#running;
    this.#running = undefined;
    await running?.stop();
  }

  /** Resolves after the first attempt; one that fails is told and made again, each time later, until one succeeds. */
  async takeUp(): Promise<void> {
    this.#isWanted = true;
    this.#backoff.reset();
    this.#starting = this.#attempt();
    await this.#starting;
  }

  async #attempt(): Promise<void> {
    const { start, clock, log } = this.#options;
    if (start === undefined || this.#running !== undefined || !this.#isWanted) return;
    try {
      this.#running = await start();
    } catch (error) {
      const delayMs = this.#backoff.nextMs();
      log.error('capture_not_kept', { error: toPicketError(error), retry_ms: Math.round(delayMs) });
      this.#cancelRetry = clock.schedule(delayMs, () => {
        this.#starting = this.#attempt();
      });
      // It may have been stopped while it was on its way.
      if (!this.#isWanted) this.#cancelRetry();
    }
  }
}
