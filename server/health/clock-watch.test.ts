import { describe, expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { AGREED_AFTER_MS, ClockWatch, LOOK_EVERY_MS, MAX_JUMP_MS } from './clock-watch.ts';

const HOUR_MS = 3_600_000;

function watched(): { clock: FakeClock; watch: ClockWatch; events: () => string[] } {
  const clock = new FakeClock(1_800_000_000_000);
  const lines: string[] = [];
  const log = createLog({ level: 'info', nowMs: () => 0, write: (line) => lines.push(line) });
  const events = (): string[] => lines.map((line) => (JSON.parse(line) as { event: string }).event);
  return { clock, watch: new ClockWatch({ clock, log }), events };
}

test.each([HOUR_MS, -HOUR_MS])(
  'ClockWatch tells of a jump by %i ms once, and that it was undone',
  (jumpMs) => {
    const { clock, watch, events } = watched();
    clock.advance(HOUR_MS);
    expect([watch.jumpMs, watch.hasJumped, events()]).toEqual([0, false, []]);
    clock.jump(jumpMs);
    expect([watch.jumpMs, watch.hasJumped]).toEqual([jumpMs, true]);
    clock.advance(LOOK_EVERY_MS * 3);
    expect(events()).toEqual(['clock_jumped']);
    clock.jump(-jumpMs);
    clock.advance(LOOK_EVERY_MS);
    expect([watch.hasJumped, events()]).toEqual([false, ['clock_jumped', 'clock_in_step']]);
  },
);

test('ClockWatch lets a clock be set right by a little', () => {
  const { clock, watch, events } = watched();
  clock.jump(MAX_JUMP_MS);
  clock.advance(LOOK_EVERY_MS);
  expect([watch.hasJumped, events()]).toEqual([false, []]);
});

describe('ClockWatch, set right after a start with a wrong clock,', () => {
  /** Reports of every minute, from the first one after the clock was set. */
  function report(watch: ClockWatch, clock: FakeClock, ahead: Readonly<Record<string, number>>): void {
    for (const [host, aheadMs] of Object.entries(ahead)) watch.compare(host, aheadMs);
    clock.advance(60_000);
  }

  test('is in step again once all hosts agree, told in the log', () => {
    const { clock, watch, events } = watched();
    clock.jump(HOUR_MS);
    clock.advance(LOOK_EVERY_MS);
    for (let minute = 0; minute * 60_000 < AGREED_AFTER_MS; minute++) {
      report(watch, clock, { a: 0, b: -2000 });
      expect(watch.hasJumped).toBe(true);
    }
    report(watch, clock, { a: 0, b: -2000 });
    expect([watch.hasJumped, watch.jumpMs]).toEqual([false, 0]);
    expect(events()).toEqual(['clock_jumped', 'clock_in_step']);
    clock.jump(-HOUR_MS);
    expect(watch.hasJumped).toBe(true);
  });

  test('is not while one host does not agree, nor by what was said before it was set again', () => {
    const { clock, watch } = watched();
    clock.jump(HOUR_MS);
    for (let minute = 0; minute < 10; minute++) report(watch, clock, { a: 0, b: -HOUR_MS });
    expect(watch.hasJumped).toBe(true);
    report(watch, clock, { a: 0, b: 0 });
    clock.jump(HOUR_MS);
    report(watch, clock, { a: 0, b: 0 });
    expect(watch.hasJumped).toBe(true);
    for (let minute = 0; minute < 10; minute++) report(watch, clock, { a: -HOUR_MS, b: -HOUR_MS });
    expect(watch.hasJumped).toBe(true);
  });

  test('is not by hosts that said one thing once', () => {
    const { clock, watch } = watched();
    clock.jump(HOUR_MS);
    for (let host = 0; host < 10; host++) report(watch, clock, { [`host-${host}`]: 0 });
    expect(watch.hasJumped).toBe(true);
  });
});

test('ClockWatch looks no more once it was stopped', async () => {
  const { clock, watch, events } = watched();
  await watch.stop();
  clock.jump(HOUR_MS);
  clock.advance(LOOK_EVERY_MS);
  expect(events()).toEqual([]);
});
