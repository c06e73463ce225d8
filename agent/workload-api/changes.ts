import type { Clock } from '../../shared/runtime/clock.ts';

/** What a stream waits for. */
export interface ChangesOptions {
  /** Each calls its listener after a change and gives back how to end that. */
  readonly sources: readonly ((listener: () => void) => () => void)[];
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/** Wakes one stream after changes. What changes while nobody waits is kept as one wake-up, so that nothing is missed and bursts become one. */
export class Changes {
  readonly #options: ChangesOptions;
  readonly #unwatch: readonly (() => void)[];
  #hasChanged = false;
  #wake: () => void = () => undefined;

  constructor(options: ChangesOptions) {
    this.#options = options;
    const note = (): void => {
      this.#hasChanged = true;
      this.#wake();
    };
    this.#unwatch = options.sources.map((watch) => watch(note));
    options.signal.addEventListener('abort', note, { once: true });
  }

  /** Waits for a change or for `withinMs`, whichever is first; true: something has changed, or the stream was given up. */
  async next(withinMs: number): Promise<boolean> {
    if (!this.#hasChanged) await this.#sleep(withinMs);
    const hasChanged = this.#hasChanged;
    this.#hasChanged = false;
    return hasChanged || this.#options.signal.aborted;
  }

  /** Ends the watching. */
  close(): void {
    for (const unwatch of this.#unwatch) unwatch();
  }

  async #sleep(withinMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.schedule(withinMs, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
    this.#wake = () => undefined;
  }
}
