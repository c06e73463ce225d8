import { expect, test } from 'bun:test';
import { RepairPace } from './repair-pace.ts';

test('RepairPace has no pauses for single changes', () => {
  const pace = new RepairPace();
  for (let nowMs = 0; nowMs < 60_000; nowMs += 2000) {
    expect(pace.pauseMs(nowMs)).toBe(0);
    pace.repaired(nowMs);
    expect(pace.isContested(nowMs)).toBe(false);
    expect(pace.shouldTell(nowMs)).toBe(false);
  }
});

test('RepairPace has pauses while changes come without end, tells it now and then, and forgets', () => {
  const pace = new RepairPace();
  for (let nowMs = 0; nowMs <= 100; nowMs += 10) pace.repaired(nowMs);
  expect(pace.isContested(100)).toBe(true);
  expect(pace.pauseMs(100)).toBe(50);
  expect(pace.pauseMs(170)).toBe(0);
  expect([pace.shouldTell(100), pace.shouldTell(101)]).toEqual([true, false]);
  for (let nowMs = 200; nowMs <= 10_000; nowMs += 100) pace.repaired(nowMs);
  expect([pace.shouldTell(10_000), pace.shouldTell(10_100)]).toEqual([false, true]);
  expect(pace.isContested(20_100)).toBe(false);
});
