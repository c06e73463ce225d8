import { expect, test } from 'bun:test';
import { renderTable } from './report.ts';
import { parseWrk } from './load/wrk.ts';
import { quantile } from './measure.ts';

test('renderTable() shows values, ratios and floors as a grid', () => {
  const results = [
    { contender: 'haproxy', median: 31_370.4, ratio: 1 },
    { contender: 'picket', median: 29_369, ratio: 0.936 },
  ];
  const measure = { name: 'requests', unit: '1/s', better: 'more', floor: 1.05 } as const;
  const rows = [{ measure, results, isMet: false }];
  const text = renderTable({
    name: 'tcp',
    title: 'TCP',
    reference: 'haproxy',
    rows,
    notes: ['50 connections'],
  });
  expect(text).toBe(`### TCP

50 connections.

|               | haproxy | picket        | floor                      |
|---------------|---------|---------------|----------------------------|
| requests, 1/s | 31,370  | 29,369 (0.94) | at least 1.05: **not met** |`);
});

test('quantile() is a value that was measured', () => {
  const values = Array.from({ length: 100 }, (_, i) => 100 - i);
  expect(quantile(values, 0.5)).toBe(51);
  expect(quantile(values, 0.99)).toBe(100);
  expect(quantile([7], 0.99)).toBe(7);
  expect(quantile([], 0.5)).toBeNaN();
});

const WRK = `Running 1s test @ http://127.0.0.1:80/r
  Latency Distribution
     50%    1.49ms
     75%    1.64ms
     90%    2.00ms
     99%  500.00us
  51515 requests in 2.00s, 7.86MB read
Requests/sec:  25727.85
`;

test('parseWrk() reads what wrk prints, and refuses a run with errors', () => {
  expect(parseWrk(WRK, '')).toEqual({ requests: 51_515, perSecond: 25_727.85, p50Ms: 1.49, p99Ms: 0.5 });
  expect(() => parseWrk(`${WRK}  Non-2xx or 3xx responses: 7\n`, '')).toThrow('Non-2xx or 3xx responses: 7');
  expect(() => parseWrk(`${WRK}  Socket errors: connect 0, read 5, write 0, timeout 0\n`, '')).toThrow(
    'read 5',
  );
  expect(() => parseWrk('', 'unable to connect')).toThrow('unable to connect');
});
