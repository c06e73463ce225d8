/** How long to leave alone what others break: longer each time, and as at first once it has held for twice the longest rest. Times are those of a monotonic clock. */
export class GrowingRest {
  readonly #firstMs: number;
  readonly #maxMs: number;
  #restMs = 0;
  #lastMs = -Infinity;

  constructor({ firstMs, maxMs }: { readonly firstMs: number; readonly maxMs: number }) {
    this.#firstMs = firstMs;
    this.#maxMs = maxMs;
  }

  /** It was broken; for how many milliseconds it is to be left alone. */
  next(nowMs: number): number {
    const hasHeld = nowMs - this.#lastMs > this.#restMs + 2 * this.#maxMs;
    this.#restMs = hasHeld ? this.#firstMs : Math.min(2 * this.#restMs, this.#maxMs);
    this.#lastMs = nowMs;
    return this.#restMs;
  }
}
