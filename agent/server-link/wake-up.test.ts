import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { WakeUp } from './wake-up.ts';

/** Whether a sleep has ended by now, after everything that waits on nothing was run. */
async function isOver(sleep: Promise<void>): Promise<boolean> {
  const pending = Symbol('pending');
  await Promise.resolve();
  await Promise.resolve();
  return (await Promise.race([sleep, Bun.sleep(0).then(() => pending)])) !== pending;
}

describe('WakeUp.sleep()', () => {
  test('lasts as long as it was told to', async () => {
    const clock = new FakeClock();
    const sleep = new WakeUp(clock).sleep(1000);
    clock.advance(999);
    expect(await isOver(sleep)).toBe(false);
    clock.advance(1);
    expect(await isOver(sleep)).toBe(true);
  });

  test('ends when it is woken, and leaves no timer', async () => {
    const clock = new FakeClock();
    const wakeUp = new WakeUp(clock);
    const sleep = wakeUp.sleep(1000);
    wakeUp.wake();
    expect(await isOver(sleep)).toBe(true);
    expect(clock.pending).toBe(0);
    expect(await isOver(wakeUp.sleep(1000))).toBe(false);
  });

  test('is cut short once by a call that came before', async () => {
    const wakeUp = new WakeUp(new FakeClock());
    wakeUp.wake();
    wakeUp.wake();
    expect(await isOver(wakeUp.sleep(1000))).toBe(true);
    expect(await isOver(wakeUp.sleep(1000))).toBe(false);
  });
});
