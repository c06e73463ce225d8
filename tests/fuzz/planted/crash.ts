import { hexWords, type FuzzTarget } from '../target.ts';

/** A parser that takes the process with it for an input without its first byte. */
export const target: FuzzTarget = {
  seeds: hexWords('0102'),
  dictionary: [],
  maxBytes: 8,
  check(input) {
    if (input[0] !== 1) process.kill(process.pid, 'SIGSEGV');
    return 'ended';
  },
};
