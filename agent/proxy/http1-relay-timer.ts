import type { Clock } from '../../shared/runtime/clock.ts';

/** From the first byte of a head to its last. */
export const HEAD_MS = 10_000;
/** How long a client may go on sending after it was refused for good: a reset at once would overtake the answer. */
export const LINGER_MS = 5000;

/** The one timer of a relay: it runs while a head is being read, or after the last answer, never for both. */
export class Http1RelayTimer {
  readonly #clock: Clock;
  #isHeadTimed = false;
  #cancel: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A head that has begun must come to its end in time, however its bytes are spread. To be told after everything that was read. */
  watchHead(isInHead: boolean, onSlow: () => void): void {
    if (isInHead === this.#isHeadTimed) return;
    this.stop();
    this.#isHeadTimed = isInHead;
    if (isInHead) this.#cancel = this.#clock.schedule(HEAD_MS, onSlow);
  }

  /** The last answer was given. */
  linger(onLingered: () => void): void {
    this.stop();
    this.#cancel = this.#clock.schedule(LINGER_MS, onLingered);
  }

  stop(): void {
    this.#cancel();
    this.#cancel = () => undefined;
    this.#isHeadTimed = false;
  }
}
