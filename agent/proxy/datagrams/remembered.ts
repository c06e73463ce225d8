import type { Clock } from '../../../shared/runtime/clock.ts';

/** Names that count for a while, the oldest of which make room for new ones. */
export class Remembered {
  readonly #clock: Clock;
  readonly #forMs: number;
  readonly #max: number;
  readonly #untilMs = new Map<string, number>();

  constructor(clock: Clock, { forMs, max }: { readonly forMs: number; readonly max: number }) {
    this.#clock = clock;
    this.#forMs = forMs;
    this.#max = max;
  }

  has(name: string): boolean {
    const untilMs = this.#untilMs.get(name);
    return untilMs !== undefined && untilMs > this.#clock.monotonicMs();
  }

  add(name: string): void {
    this.#untilMs.delete(name);
    this.#untilMs.set(name, this.#clock.monotonicMs() + this.#forMs);
    const [oldest] = this.#untilMs.keys();
    if (this.#untilMs.size > this.#max && oldest !== undefined) this.#untilMs.delete(oldest);
  }

  clear(): void {
    this.#untilMs.clear();
  }
}
