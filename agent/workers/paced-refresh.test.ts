import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { paceRefresh, REFRESH_EVERY_MS } from './paced-refresh.ts';

test('paceRefresh() asks once in its time for all who ask, and nobody gets what was so before he asked', async () => {
  const clock = new FakeClock();
  let asked = 0;
  const refresh = paceRefresh(async () => {
    asked += 1;
    await Promise.resolve();
  }, clock);
  await refresh();
  expect(asked).toBe(1);
  const crowd = Array.from({ length: 1000 }, async () => await refresh());
  clock.advance(REFRESH_EVERY_MS - 1);
  await Promise.resolve();
  expect([asked, clock.pending]).toEqual([1, 1]);
  clock.advance(1);
  await Promise.all(crowd);
  expect(asked).toBe(2);
  clock.advance(REFRESH_EVERY_MS);
  await refresh();
  expect(asked).toBe(3);
});
