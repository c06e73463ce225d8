/** A party may hold this many times what is free: three quarters of all places while it is alone, and whoever comes next finds some. */
const TIMES_FREE = 3;

/**
 * Places of which nobody takes more than leaves others theirs. The more is taken, the less anybody may add to what he has: places are free as long as
 * there are fewer parties than places, without any being set aside for those who do not come.
 */
export class FairShare {
  readonly #max: number;
  readonly #held = new Map<string, number>();
  #taken = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get taken(): number {
    return this.#taken;
  }

  /** Whether the last of `count` places more leaves others theirs. */
  hasRoomFor(party: string, count = 1): boolean {
    const others = count - 1;
    const free = this.#max - this.#taken - others;
    return free > 0 && (this.#held.get(party) ?? 0) + others < TIMES_FREE * free;
  }

  /** Counts `change` places more, or fewer, as the party's; whether there is room was asked before. */
  add(party: string, change: number): void {
    this.#taken += change;
    const held = (this.#held.get(party) ?? 0) + change;
    if (held === 0) this.#held.delete(party);
    else this.#held.set(party, held);
  }
}
