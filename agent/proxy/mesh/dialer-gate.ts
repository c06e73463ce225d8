import type { Clock } from '../../../shared/runtime/clock.ts';

type Resolve = (isInside: boolean) => void;

/** Lets so many in at a time; the others wait for a bounded time. The parties take turns, so that whoever sends a crowd waits for himself. */
export class Gate {
  readonly #max: number;
  readonly #clock: Clock;
  /** Those of each party in the order of their coming; the party whose turn it is stands first. */
  readonly #waiting = new Map<string, Set<Resolve>>();
  #inside = 0;

  constructor(max: number, clock: Clock) {
    this.#max = max;
    this.#clock = clock;
  }

  get isUnused(): boolean {
    return this.#inside === 0;
  }

  /** True once inside, to be followed by `leave`; false when `timeoutMs` passed before. */
  async enter(party: string, timeoutMs: number): Promise<boolean> {
    if (this.#inside < this.#max) {
      this.#inside += 1;
      return true;
    }
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#waiting.set(party, (this.#waiting.get(party) ?? new Set()).add(resolve));
    const cancel = this.#clock.schedule(timeoutMs, () => {
      this.#remove(party, resolve);
      resolve(false);
    });
    const isInside = await promise;
    cancel();
    return isInside;
  }

  /** As `enter`, without waiting, and only where half of the places stay free: for what can do without. */
  tryEnter(): boolean {
    if ((this.#inside + 1) * 2 > this.#max) return false;
    this.#inside += 1;
    return true;
  }

  leave(): void {
    const [turn] = this.#waiting;
    const [party, waiting] = turn ?? [];
    const [next] = waiting ?? [];
    if (party === undefined || waiting === undefined || next === undefined) {
      this.#inside -= 1;
      return;
    }
    this.#remove(party, next);
    if (waiting.size > 0) {
      this.#waiting.delete(party);
      this.#waiting.set(party, waiting);
    }
    next(true);
  }

  #remove(party: string, resolve: Resolve): void {
    const waiting = this.#waiting.get(party);
    waiting?.delete(resolve);
    if (waiting?.size === 0) this.#waiting.delete(party);
  }
}

/** A gate for each address, as long as somebody is inside or waits. */
export class Gates {
  readonly #max: number;
  readonly #clock: Clock;
  readonly #gates = new Map<string, Gate>();

  /** `max`: of each gate. */
  constructor(max: number, clock: Clock) {
    this.#max = max;
    this.#clock = clock;
  }

  of(address: string): Gate {
    const gate = this.#gates.get(address) ?? new Gate(this.#max, this.#clock);
    this.#gates.set(address, gate);
    return gate;
  }

  /** Whoever was inside leaves. */
  leave(address: string, gate: Gate): void {
    gate.leave();
    if (gate.isUnused) this.#gates.delete(address);
  }
}
