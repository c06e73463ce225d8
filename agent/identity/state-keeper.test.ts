import { describe, expect, test } from 'bun:test';
import { silentLog } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { KEEP_AGAIN_MS, StateKeeper } from './state-keeper.ts';

function open() {
  const clock = new FakeClock();
  const run = { begun: 0, ended: 0, isFull: false, unkept: 0 };
  const gates: (() => void)[] = [];
  const keeper = new StateKeeper({
    write: async () => {
      run.begun += 1;
      await new Promise<void>((resolve) => gates.push(resolve));
      run.ended += 1;
      if (run.isFull) throw new Error('The disk is full');
    },
    clock,
    log: silentLog,
    observer: { unkept: () => (run.unkept += 1) },
  });
  return { clock, run, gates, keeper };
}

describe('StateKeeper', () => {
  test('writes changes that come together once, and one writing after another', async () => {
    const { clock, run, gates, keeper } = open();
    for (let i = 0; i < 5; i++) keeper.changed();
    clock.advance(1000);
    await waitUntil('it writes', () => run.begun === 1);
    keeper.changed();
    clock.advance(1000);
    await Bun.sleep(0);
    expect(run.begun).toBe(1);
    gates[0]?.();
    await waitUntil('it writes again', () => run.begun === 2);
    expect(run.ended).toBe(1);
    gates[1]?.();
    await keeper.close();
    expect([run.begun, run.ended]).toEqual([2, 2]);
  });

  test('writes what is urgent at once, with what waited', async () => {
    const { clock, run, gates, keeper } = open();
    keeper.changed();
    keeper.changed({ isUrgent: true });
    await waitUntil('it writes', () => run.begun === 1);
    gates[0]?.();
    clock.advance(10_000);
    await keeper.close();
    expect(run.begun).toBe(1);
  });

  test('flush() writes what was not written yet, waits for it, and later changes are written as before', async () => {
    const { clock, run, gates, keeper } = open();
    keeper.changed();
    const flushed = keeper.flush();
    await waitUntil('it writes', () => run.begun === 1);
    gates[0]?.();
    await flushed;
    await keeper.flush();
    expect([run.begun, run.ended]).toEqual([1, 1]);
    keeper.changed();
    clock.advance(1000);
    await waitUntil('it writes again', () => run.begun === 2);
    gates[1]?.();
    await keeper.close();
  });

  test('close() writes what was not written yet, and nothing that is', async () => {
    const { clock, run, gates, keeper } = open();
    keeper.changed();
    const closed = keeper.close();
    await waitUntil('it writes', () => run.begun === 1);
    gates[0]?.();
    await closed;
    keeper.changed();
    clock.advance(10_000);
    await keeper.close();
    expect(run.begun).toBe(1);
  });

  test('goes on after a writing that failed', async () => {
    const { clock, run, gates, keeper } = open();
    run.isFull = true;
    keeper.changed();
    clock.advance(1000);
    await waitUntil('it writes', () => run.begun === 1);
    gates[0]?.();
    await waitUntil('it failed', () => run.ended === 1 && run.unkept === 1);
    keeper.changed();
    clock.advance(1000);
    await waitUntil('it writes again', () => run.begun === 2);
    gates[1]?.();
    await keeper.close();
  });

  test('tries again what could not be written, although nothing changes any more', async () => {
    const { clock, run, gates, keeper } = open();
    run.isFull = true;
    keeper.changed();
    clock.advance(1000);
    await waitUntil('it writes', () => run.begun === 1);
    gates[0]?.();
    await waitUntil('it is to be tried again', () => clock.pending === 1);
    run.isFull = false;
    clock.advance(KEEP_AGAIN_MS + 1000);
    await waitUntil('it writes again', () => run.begun === 2);
    gates[1]?.();
    await keeper.close();
    expect([run.ended, clock.pending]).toEqual([2, 0]);
  });
});
