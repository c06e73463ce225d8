import { describe, expect, test } from 'bun:test';
import { parseH2load } from './h2load.ts';

const output = (failed: number): string => `Application protocol: h2c

finished in 1.00s, 4800.00 req/s, 255.73KB/s
requests: 4800 total, 5800 started, 4800 done, ${4800 - failed} succeeded, ${failed} failed, 0 errored, 0 timeout
status codes: ${4800 - failed} 2xx, 0 3xx, 0 4xx, ${failed} 5xx
`;

describe('parseH2load()', () => {
  test('reads how many requests there were, and how fast', () => {
    expect(parseH2load(output(0))).toEqual({ requests: 4800, perSecond: 4800 });
  });

  test('takes no run in which a request failed, or nothing ran', () => {
    expect(() => parseH2load(output(1))).toThrow('1 failed');
    expect(() => parseH2load('could not connect')).toThrow('h2load failed');
  });
});
