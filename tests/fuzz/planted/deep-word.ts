import { hexWords, type FuzzTarget } from '../target.ts';

const WORD = 0x9137e25c;

/** A bug behind 32 bits, each of which shows as a new way: random inputs alone would take 2^32 tries. */
export const target: FuzzTarget = {
  seeds: hexWords('0000000000'),
  dictionary: [],
  maxBytes: 16,
  check(input) {
    if (input.length < 4) return 'short';
    const same = Math.clz32(input.readUInt32BE(0) ^ WORD);
    if (same === 32) throw new TypeError('the planted bug');
    return `${same}`;
  },
};
