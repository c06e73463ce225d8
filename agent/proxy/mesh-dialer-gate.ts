import type { Clock } from '../../shared/runtime/clock.ts';

/** Lets so many in at a time; the others wait in turn, for a bounded time. */
export class Gate {
  readonly #max: number;
  readonly #clock: Clock;
  readonly #waiting: ((isInside: boolean) => void)[] = [];
  #inside = 0;

  constructor(max: number, clock: Clock) {
    this.#max = max;
    this.#clock = clock;
  }

  get isUnused(): boolean {
    return this.#inside === 0;
  }

  /** True once inside, to be followed by `leave`; false when `timeoutMs` passed before. */
  async enter(timeoutMs: number): Promise<boolean> {
    if (this.#inside < this.#max) {
      this.#inside += 1;
      return true;
    }
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#waiting.push(resolve);
    const cancel = this.#clock.schedule(timeoutMs, () => {
      this.#waiting.splice(this.#waiting.indexOf(resolve), 1);
      resolve(false);
    });
    const isInside = await promise;
    cancel();
    return isInside;
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inside -= 1;
    else next(true);
  }
}
