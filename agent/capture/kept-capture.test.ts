import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { KeptCapture } from './kept-capture.ts';

/** A keeper whose start fails `failures` times. */
function rig(failures: number) {
  const clock = new FakeClock();
  const lines: string[] = [];
  const counts = { attempts: 0, running: 1 };
  const stop = async (): Promise<void> => {
    counts.running -= 1;
    await Promise.resolve();
  };
  const capture = new KeptCapture(
    {
      start: async () => {
        counts.attempts += 1;
        await Promise.resolve();
        if (counts.attempts <= failures) throw new Error('nft is busy');
        counts.running += 1;
        return { stop };
      },
      clock,
      random: () => 1,
      log: createLog({ level: 'error', nowMs: () => 0, write: (line) => void lines.push(line) }),
    },
    { stop },
  );
  return { clock, lines, counts, capture };
}

describe('KeptCapture', () => {
  test('does not give up until the keeper runs again, each time later, and says so', async () => {
    const { clock, lines, counts, capture } = rig(3);
    await capture.letGo();
    expect(counts).toEqual({ attempts: 0, running: 0 });
    await capture.takeUp();
    expect(counts).toEqual({ attempts: 1, running: 0 });
    for (const [attempts, delayMs] of [
      [2, 250],
      [3, 500],
      [4, 1000],
    ] as const) {
      clock.advance(delayMs - 1);
      expect(counts.attempts).toBe(attempts - 1);
      clock.advance(1);
      await waitUntil('it came of it', () => clock.pending + counts.running === 1);
      expect(counts.attempts).toBe(attempts);
    }
    expect(counts.running).toBe(1);
    expect(lines.filter((line) => line.includes('capture_not_kept'))).toHaveLength(3);
  });

  test('starts none once it is stopped, and stops one that was on its way', async () => {
    const failing = rig(9);
    await failing.capture.letGo();
    await failing.capture.takeUp();
    await failing.capture.letGo();
    failing.clock.advance(60_000);
    expect(failing.counts.attempts).toBe(1);
    const late = rig(0);
    await late.capture.letGo();
    const starting = late.capture.takeUp();
    await late.capture.letGo();
    await starting;
    expect(late.counts).toEqual({ attempts: 1, running: 0 });
  });
});
