import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { CrowdTally, summarizeCrowd } from './crowd-tally.ts';

test('CrowdTally counts by why, and summarizeCrowd() tells all of them and when the last one was', () => {
  const clock = new FakeClock(1_800_000_000_000);
  const [agents, operators] = [new CrowdTally(clock), new CrowdTally(clock)];
  expect(summarizeCrowd([agents, operators])).toEqual({ count: 0 });
  agents.note('unproven');
  clock.advance(1000);
  operators.note('full');
  operators.note('full');
  clock.advance(1000);
  expect([...operators.counts]).toEqual([['full', 2]]);
  expect(summarizeCrowd([agents, operators])).toEqual({
    count: 3,
    lastAt: new Date(1_800_000_001_000).toISOString(),
  });
});
