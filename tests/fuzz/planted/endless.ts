import { hexWords, type FuzzTarget } from '../target.ts';

/** A parser that does not end for an input without its first byte. */
export const target: FuzzTarget = {
  seeds: hexWords('0102'),
  dictionary: [],
  maxBytes: 8,
  check(input) {
    while (input[0] !== 1);
    return 'ended';
  },
};
