import { expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { ClockWatch, LOOK_EVERY_MS, MAX_JUMP_MS } from './clock-watch.ts';

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

test('ClockWatch looks no more once it was stopped', async () => {
  const { clock, watch, events } = watched();
  await watch.stop();
  clock.jump(HOUR_MS);
  clock.advance(LOOK_EVERY_MS);
  expect(events()).toEqual([]);
});
