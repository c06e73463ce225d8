import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { JUMP_MS, LOOK_EVERY_MS, watchClockJumps } from './clock-jumps.ts';

test('watchClockJumps() tells of each jump once, either way, and of nothing else', () => {
  const clock = new FakeClock();
  let jumps = 0;
  const end = watchClockJumps(clock, () => void jumps++);
  const after = (byMs: number): number => {
    clock.jump(byMs);
    clock.advance(LOOK_EVERY_MS * 3);
    return jumps;
  };
  expect(after(0)).toBe(0);
  expect(after(JUMP_MS - 1)).toBe(0);
  expect(after(3_600_000)).toBe(1);
  expect(after(-3_600_000)).toBe(2);
  end();
  expect(after(JUMP_MS)).toBe(2);
  expect(clock.pending).toBe(0);
});
