import { expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { MAX_SKEW_MS, ServerTime } from './server-time.ts';

test('ServerTime raises the alarm beyond five minutes in either direction, once, and ends it', () => {
  const clock = new FakeClock();
  const events: string[] = [];
  const log = createLog({
    level: 'info',
    nowMs: () => clock.nowMs(),
    write: (line) => {
      const { level, event } = JSON.parse(line) as { readonly level: string; readonly event: string };
      events.push(`${level} ${event}`);
    },
  });
  const time = new ServerTime({ clock, log });
  const serverIsAhead = (byMs: number): void => time.observe(clock.nowMs() + byMs);
  serverIsAhead(MAX_SKEW_MS);
  serverIsAhead(-MAX_SKEW_MS);
  expect([time.isSkewed, time.skewMs]).toEqual([false, MAX_SKEW_MS]);
  serverIsAhead(MAX_SKEW_MS + 1);
  serverIsAhead(-MAX_SKEW_MS - 1);
  expect([time.isSkewed, time.skewMs]).toEqual([true, MAX_SKEW_MS + 1]);
  expect(events).toEqual(['error clock_skewed']);
  serverIsAhead(0);
  expect(time.isSkewed).toBe(false);
  expect(events).toEqual(['error clock_skewed', 'info clock_in_step']);
});
