import { describe, expect, test } from 'bun:test';
import type { Clock } from '../../shared/runtime/clock.ts';
import { isValidAt, renewAtMs, SvidLife } from './svid-life.ts';

const HOUR_MS = 3_600_000;
const DATED_BACK_MS = 300_000;

describe('renewAtMs()', () => {
  test('is the middle of the life, give or take a tenth of it', () => {
    const day = { notBeforeMs: -DATED_BACK_MS, notAfterMs: 24 * HOUR_MS };
    expect(renewAtMs(day, 0.5)).toBe(12 * HOUR_MS);
    expect(renewAtMs(day, 0)).toBeCloseTo(9.6 * HOUR_MS);
    expect(renewAtMs(day, 1)).toBeCloseTo(14.4 * HOUR_MS);
  });

  test('is never later than an hour before the end of a 24 h life', () => {
    for (let random = 0; random <= 1; random += 0.01)
      expect(
        renewAtMs({ notBeforeMs: -DATED_BACK_MS, notAfterMs: 24 * HOUR_MS }, random),
      ).toBeLessThanOrEqual(23 * HOUR_MS);
  });
});

describe('renewAtMs() for short lives', () => {
  test('counts from the issue, not from the date before it', () => {
    expect(renewAtMs({ notBeforeMs: -DATED_BACK_MS, notAfterMs: 20_000 }, 0.5)).toBe(10_000);
  });

  test('counts from the beginning where nothing was dated back', () => {
    expect(renewAtMs({ notBeforeMs: 0, notAfterMs: 20_000 }, 0.5)).toBe(10_000);
  });
});

describe('SvidLife', () => {
  function clockAt(times: { wall: number; monotonic: number }): Clock {
    return { nowMs: () => times.wall, monotonicMs: () => times.monotonic, schedule: () => () => undefined };
  }

  test('ends when the wall clock jumps forward', () => {
    const times = { wall: 1000, monotonic: 5 };
    const life = new SvidLife({ notBeforeMs: 0, notAfterMs: 2000 }, clockAt(times));
    expect(life.isEnded).toBe(false);
    times.wall = 2000;
    expect(life.isEnded).toBe(true);
  });

  test('is not in force before its beginning, nor after its end by either clock', () => {
    const times = { wall: 1000, monotonic: 5 };
    const life = new SvidLife({ notBeforeMs: 500, notAfterMs: 2000 }, clockAt(times));
    expect(life.isInForce).toBe(true);
    times.wall = 499;
    expect([life.isInForce, life.isEnded]).toEqual([false, false]);
    times.wall = 500;
    expect(life.isInForce).toBe(true);
    times.monotonic = 1005;
    expect(life.isInForce).toBe(false);
  });

  test('is not stretched when the wall clock goes back', () => {
    const times = { wall: 1000, monotonic: 5 };
    const life = new SvidLife({ notBeforeMs: 0, notAfterMs: 2000 }, clockAt(times));
    times.wall = 0;
    times.monotonic = 1004;
    expect(life.remainingMs).toBe(1);
    times.monotonic = 1005;
    expect(life.isEnded).toBe(true);
  });
});

test('isValidAt() takes the beginning in and leaves the end out', () => {
  const validity = { notBeforeMs: 10, notAfterMs: 20 };
  expect([9, 10, 19, 20].map((nowMs) => isValidAt(validity, nowMs))).toEqual([false, true, true, false]);
});
