import type { Clock } from '../../shared/runtime/clock.ts';

/** The pause of a loop that can be cut short. A call to `wake` while nobody sleeps cuts the next sleep short, so that none is lost. */
export class WakeUp {
  readonly #clock: Clock;
  #isWoken = false;
  #end: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Returns after `delayMs` on the monotonic clock, or when it is woken. One sleeper at a time. */
  async sleep(delayMs: number): Promise<void> {
    if (!this.#isWoken) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#end = resolve;
      const cancel = this.#clock.schedule(delayMs, resolve);
      await promise.finally(cancel);
      this.#end = undefined;
    }
    this.#isWoken = false;
  }

  wake(): void {
    this.#isWoken = true;
    this.#end?.();
  }
}
