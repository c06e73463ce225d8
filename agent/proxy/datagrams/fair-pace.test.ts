import { expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { FairPace } from './fair-pace.ts';

function take(pace: FairPace, party: string, times: number): number {
  return Array.from({ length: times }, () => pace.tryTake(party)).filter(Boolean).length;
}

test('FairPace leaves time for others in each second, however many ask, and does no more than so much for all', () => {
  const clock = new FakeClock();
  const pace = new FairPace(clock, 100);
  expect(take(pace, 'loud', 1000)).toBe(75);
  expect(take(pace, 'quiet', 5)).toBe(5);
  clock.advance(999);
  expect(take(pace, 'loud', 1000)).toBe(0);
  clock.advance(1);
  const parties = Array.from({ length: 300 }, (_, party) => `party ${party}`);
  expect(parties.reduce((sum, party) => sum + take(pace, party, 10), 0)).toBe(100);
});

test('tryTake() of many takes all of them or none, and leaves others time', () => {
  const pace = new FairPace(new FakeClock(), 100);
  const tries = Array.from({ length: 4 }, () => pace.tryTake('dear', 20));
  expect(tries).toEqual([true, true, true, false]);
  expect(take(pace, 'dear', 100)).toBe(15);
  expect(take(pace, 'quiet', 10)).toBe(10);
  expect(pace.tryTake('another', 101)).toBe(false);
});
