import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { RouteFollower } from './route-follower.ts';

test('RouteFollower looks at once after a quiet time, more and more rarely while changes come without end, and no more once it has stopped', () => {
  const clock = new FakeClock();
  let looks = 0;
  const follower = new RouteFollower({ namespaces: { followRoutes: () => looks++ }, clock });
  const hearFor = (ms: number): void => {
    for (let passed = 0; passed < ms; passed++) {
      follower.hear();
      clock.advance(1);
    }
  };
  hearFor(12);
  expect(looks).toBe(1);
  hearFor(10_000);
  const looksOfFlood = looks;
  expect(looksOfFlood).toBeLessThan(15);
  hearFor(10_000);
  expect(looks - looksOfFlood).toBeLessThan(7);
  clock.advance(2000);
  const before = looks;
  // Whatever was heard.
  clock.advance(5000);
  expect(looks).toBe(before + 1);
  follower.hear();
  clock.advance(10);
  expect(looks).toBe(before + 2);
  follower.hear();
  follower.stop();
  clock.advance(5000);
  expect([looks, clock.pending]).toEqual([before + 2, 0]);
});
