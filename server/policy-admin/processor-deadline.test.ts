import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { startProcessorDeadline } from './processor-deadline.ts';

/** A process that gets `share` of a processor. */
function start(share: number) {
  const clock = new FakeClock();
  const told = { over: 0 };
  const end = startProcessorDeadline({
    grantedMs: 5000,
    longestMs: 30_000,
    spentMs: () => 100 + clock.monotonicMs() * share,
    clock,
    onOver: () => void told.over++,
  });
  return { clock, told, end };
}

describe('startProcessorDeadline()', () => {
  test.each([
    ['a processor of its own', 1, 5000],
    ['two, of which others of the process have one', 2, 5000],
    ['half of one', 0.5, 10_000],
    ['next to nothing', 0.001, 30_000],
  ])('is over in its time with %s', (_, share, atMs) => {
    const { clock, told } = start(share);
    clock.advance(atMs - 5);
    expect(told.over).toBe(0);
    clock.advance(10);
    expect(told.over).toBe(1);
    clock.advance(100_000);
    expect([told.over, clock.pending]).toEqual([1, 0]);
  });

  test('is never over once it was ended', () => {
    const { clock, told, end } = start(0.5);
    clock.advance(6000);
    end();
    clock.advance(100_000);
    expect([told.over, clock.pending]).toEqual([0, 0]);
  });
});
