import { describe, expect, test } from 'bun:test';
import { findKeepAliveSeconds } from './http1-keep-alive.ts';

const find = (...lines: readonly string[]): number | undefined =>
  findKeepAliveSeconds(Buffer.from(['HTTP/1.1 200 OK', ...lines, '', ''].join('\r\n'), 'latin1'));

describe('findKeepAliveSeconds()', () => {
  test.each([
    ['Keep-Alive: timeout=5', 5],
    ['keep-alive:timeout=5, max=100', 5],
    ['KEEP-ALIVE: max=100,timeout = 15', 15],
    ['X: timeout=7, timeout=8\r\nKeep-Alive: timeout=9', 9],
    ['Keep-Alive: max=3, timeout="60"', 60],
  ])('reads %s', (line, seconds) => {
    expect(find('Date: now', line, 'Content-Length: 0')).toBe(seconds);
  });

  test.each([
    ['no such field', 'Connection: keep-alive'],
    ['no timeout', 'Keep-Alive: max=100'],
    ['zero', 'Keep-Alive: timeout=0'],
    ['a negative one', 'Keep-Alive: timeout=-1'],
    ['no number', 'Keep-Alive: timeout=soon'],
    ['a number beyond a week', 'Keep-Alive: timeout=9999999'],
    ['another parameter', 'Keep-Alive: xtimeout=5'],
    ['another field', 'X-Keep-Alive: timeout=5'],
    ['a field that speaks of one', 'Connection: timeout'],
    ['the field after it', 'Keep-Alive: max=1\r\nX: timeout=5'],
  ])('finds nothing in %s', (_, line) => {
    expect(find(line)).toBeUndefined();
  });

  test('takes no longer the more there is of it', () => {
    const startedMs = performance.now();
    expect(find(`Keep-Alive: ${', timeou'.repeat(30_000)}`)).toBeUndefined();
    expect(performance.now() - startedMs).toBeLessThan(1000);
  });
});
