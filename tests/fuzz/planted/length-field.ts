import { hexWords, type FuzzTarget } from '../target.ts';

/** A reader that trusts a length: it is found only by an input that keeps the magic and announces more than there is. */
export const target: FuzzTarget = {
  seeds: hexWords('504b0005616263646500ff'),
  dictionary: [],
  maxBytes: 64,
  check(input) {
    if (input.length < 4 || input.toString('latin1', 0, 2) !== 'PK') return 'no magic';
    const length = input.readUInt16BE(2);
    // node throws RangeError beyond the end: what a bounds check should have refused.
    return length === 0 ? 'empty' : `ends with ${input.readUInt8(4 + length - 1) === 0}`;
  },
};
