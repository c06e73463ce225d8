/** Delays that double from `firstMs` to `maxMs`, each cut to a random half to full of itself, so that a crowd spreads out. */
export class Backoff {
  readonly #firstMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #attempt = 0;

  constructor(options: { readonly firstMs: number; readonly maxMs: number; readonly random: () => number }) {
    this.#firstMs = options.firstMs;
    this.#maxMs = options.maxMs;
    this.#random = options.random;
  }

  /** The next delay in milliseconds. */
  nextMs(): number {
    const full = Math.min(this.#maxMs, this.#firstMs * 2 ** Math.min(this.#attempt++, 30));
    return full / 2 + (full / 2) * this.#random();
  }

  /** After a success: the next delay is the first one again. */
  reset(): void {
    this.#attempt = 0;
  }
}
