import { expect, test } from 'bun:test';
import { GrowingRest } from './growing-rest.ts';

test('GrowingRest.next() doubles up to the longest, and begins again once it has held for long', () => {
  const rests = new GrowingRest({ firstMs: 250, maxMs: 1000 });
  expect([0, 250, 750, 1750, 2750].map((nowMs) => rests.next(nowMs))).toEqual([250, 500, 1000, 1000, 1000]);
  expect(rests.next(2750 + 1000 + 2000)).toBe(1000);
  expect(rests.next(5750 + 1000 + 2001)).toBe(250);
});
