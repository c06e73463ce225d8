/** Pseudo-random numbers that a seed repeats exactly (mulberry32). Never for secrets. */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to 2^32 - 1. */
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** A whole number from 0 to `end` - 1; 0 where `end` is 0. */
  below(end: number): number {
    return Math.floor((this.u32() / 2 ** 32) * end);
  }

  /** Mostly small: 1 to `most`, each doubling half as likely. */
  small(most: number): number {
    const limit = Math.min(most, 2 ** this.below(Math.ceil(Math.log2(most)) + 1));
    return 1 + this.below(limit);
  }

  /** One of a list that is not empty. */
  pick<T>(list: readonly T[]): T {
    const picked = list[this.below(list.length)];
    if (picked === undefined) throw new RangeError('Cannot pick from an empty list');
    return picked;
  }
}
