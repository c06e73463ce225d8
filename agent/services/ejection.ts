import type { Clock } from '../../shared/runtime/clock.ts';

/** Failures one after another, without a success between them, before a member is passed over. */
export const FAILURES_TO_EJECT = 3;
/** How long a member is passed over the first time; each further time twice as long. */
export const FIRST_EJECTION_MS = 5000;
export const MAX_EJECTION_MS = 300_000;
/** Up to this part is added by chance, so that hosts do not all come back at once. */
const JITTER = 0.2;
/** Who answered may have a part in the text, and status reports are bounded. */
const MAX_WHY = 1024;

/**
 * Whether one member is well, by what became of connections to it. One that failed `FAILURES_TO_EJECT` times in a row is passed over for a time that grows
 * from ejection to ejection up to `MAX_EJECTION_MS`; then one more failure is enough. Once it has been back for as long as it was away, all is forgotten.
 */
export class Ejection {
  readonly #clock: Clock;
  readonly #random: () => number;
  #failures = 0;
  #ejections = 0;
  #lastMs = 0;
  #untilMs = -Infinity;
  #lastFailure: string | undefined;

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** How long it is still passed over, in milliseconds; 0: it is not. */
  get remainingMs(): number {
    return Math.max(0, this.#untilMs - this.#clock.monotonicMs());
  }

  /** What failed last; undefined once a connection came about after it. */
  get lastFailure(): string | undefined {
    return this.#lastFailure;
  }

  succeeded(): void {
    // A success of a connection that began before: the ejection stands until its end.
    if (this.remainingMs > 0) return;
    this.#failures = 0;
    this.#lastFailure = undefined;
    if (this.#clock.monotonicMs() - this.#untilMs > this.#lastMs) this.#ejections = 0;
  }

  /** Whether this ejected it. `isGrave`: at once, for what is no accident: somebody else answered. */
  failed(why: string, { isGrave }: { readonly isGrave: boolean }): boolean {
    this.#lastFailure = why.slice(0, MAX_WHY);
    if (this.remainingMs > 0) return false;
    this.#failures += 1;
    const isBack = this.#ejections > 0;
    if (!isGrave && !isBack && this.#failures < FAILURES_TO_EJECT) return false;
    this.#lastMs = Math.min(FIRST_EJECTION_MS * 2 ** this.#ejections, MAX_EJECTION_MS);
    this.#ejections = Math.min(this.#ejections + 1, 16);
    this.#failures = 0;
    this.#untilMs = this.#clock.monotonicMs() + this.#lastMs * (1 + JITTER * this.#random());
    return true;
  }
}
