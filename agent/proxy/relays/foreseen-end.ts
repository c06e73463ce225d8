import type { Clock } from '../../../shared/runtime/clock.ts';

/** So long before the end each answer says that it is the last one: whoever keeps his connection busy asks once more within this time. */
const LAST_ANSWERS_MS = 3000;
/** So long before the end a connection on which nobody asks is closed in good order. */
const IDLE_MS = 500;

/**
 * The end that a connection will have whatever happens, because a certificate of it ends then. Requests are not to run into it: a client learns beforehand that it
 * must make its next one on another connection.
 */
export class ForeseenEnd {
  readonly #clock: Clock;
  readonly #atMs: number;
  #isBroughtNear = false;

  /** `atMs` is a time of the monotonic clock, `Infinity` for no such end. */
  constructor(clock: Clock, atMs: number) {
    this.#clock = clock;
    this.#atMs = atMs;
  }

  /** Whether an answer that begins now is the last one. */
  get isNear(): boolean {
    return this.#isBroughtNear || this.#clock.monotonicMs() >= this.#atMs - LAST_ANSWERS_MS;
  }

  /** The agent goes: from now on every answer is the last one. */
  bringNear(): void {
    this.#isBroughtNear = true;
  }

  /** Calls back when whoever is told so beforehand must hear that no new request is to begin here, unless the returned function was called before. */
  whenNear(onNear: () => void): () => void {
    if (this.#atMs === Infinity) return () => undefined;
    return this.#clock.schedule(
      Math.max(0, this.#atMs - LAST_ANSWERS_MS - this.#clock.monotonicMs()),
      onNear,
    );
  }

  /** Calls back when a connection on which nobody asks is to be closed, unless the returned function was called before. */
  whenIdleEnds(onEnd: () => void): () => void {
    if (this.#atMs === Infinity) return () => undefined;
    return this.#clock.schedule(Math.max(0, this.#atMs - IDLE_MS - this.#clock.monotonicMs()), onEnd);
  }
}
