import { hexWords, type FuzzTarget } from '../target.ts';

const BITS = 24;
const WORD = 0x9137e2;

/** A bug behind 24 bits, each of which shows as a new way: random inputs alone would take 16 million tries. */
export const target: FuzzTarget = {
  seeds: hexWords('000000'),
  dictionary: [],
  maxBytes: 3,
  check(input) {
    if (input.length < 3) return 'short';
    const same = Math.clz32(input.readUIntBE(0, 3) ^ WORD) - (32 - BITS);
    if (same === BITS) throw new TypeError('the planted bug');
    return `${same}`;
  },
};
