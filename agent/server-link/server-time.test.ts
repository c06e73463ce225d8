import { beforeEach, describe, expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { LOOK_EVERY_MS, MAX_SKEW_MS, ServerTime } from './server-time.ts';

let clock: FakeClock;
let events: string[];
let time: ServerTime;

beforeEach(() => {
  clock = new FakeClock();
  events = [];
  const log = createLog({
    level: 'info',
    nowMs: () => clock.nowMs(),
    write: (line) => {
      const { level, event } = JSON.parse(line) as { readonly level: string; readonly event: string };
      events.push(`${level} ${event}`);
    },
  });
  time = new ServerTime({ clock, log });
});

describe('ServerTime', () => {
  test('raises the alarm beyond five minutes in either direction, once, and ends it', () => {
    const serverIsAhead = (byMs: number): void => time.observe(clock.nowMs() + byMs);
    expect([time.isSkewed, time.skewMs]).toEqual([false, undefined]);
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

  test.each([3_600_000, -3_600_000])(
    'notices a jump of the clock by %i ms while no server answers',
    (jumpMs) => {
      time.observe(clock.nowMs());
      clock.advance(86_400_000);
      expect(events).toEqual([]);
      clock.jump(jumpMs);
      expect([time.isSkewed, time.skewMs]).toEqual([true, jumpMs]);
      clock.advance(LOOK_EVERY_MS);
      expect(events).toEqual(['error clock_skewed']);
      clock.jump(-jumpMs);
      clock.advance(LOOK_EVERY_MS);
      expect(events).toEqual(['error clock_skewed', 'info clock_in_step']);
    },
  );

  test('looks no more after stop', async () => {
    time.observe(clock.nowMs());
    await time.stop();
    expect(clock.pending).toBe(0);
  });
});
