import { expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { followAddresses } from './follow-addresses.ts';

interface Listeners {
  readonly onChange: () => void;
  readonly onEnd: () => void;
}

function rig(watch: (listeners: Listeners) => Promise<() => void>, onChange = (): void => undefined) {
  const lines: string[] = [];
  const log = createLog({ level: 'warn', nowMs: () => 0, write: (line) => lines.push(line) });
  const clock = new FakeClock();
  return { clock, lines, begin: async () => await followAddresses({ watch, onChange, clock, log }) };
}

test('followAddresses() begins anew where the kernel told no more, and tells that something may have changed', async () => {
  const opened: Listeners[] = [];
  let told = 0;
  let ended = 0;
  const { clock, begin } = rig(
    (listeners) => {
      opened.push(listeners);
      return Promise.resolve(() => void ended++);
    },
    () => void told++,
  );
  const following = await begin();
  opened[0]?.onChange();
  expect(told).toBe(1);
  opened[0]?.onEnd();
  expect([opened.length, told]).toEqual([1, 1]);
  clock.advance(1000);
  await Promise.resolve();
  expect([opened.length, told]).toEqual([2, 2]);
  await following.stop();
  expect([ended, clock.pending]).toEqual([1, 0]);
});

test('followAddresses() tries again where it cannot begin, and stops in between', async () => {
  let tries = 0;
  const { clock, lines, begin } = rig(() => {
    tries++;
    return Promise.reject(new PicketError('unavailable', 'address_watch', 'no'));
  });
  const following = await begin();
  expect(lines.join('')).toContain('address_watch_failed');
  clock.advance(1000);
  expect(tries).toBe(2);
  await Bun.sleep(0);
  await following.stop();
  expect(clock.pending).toBe(0);
});

test('followAddresses() logs what telling throws', async () => {
  const { lines, begin } = rig(
    (listeners) => {
      listeners.onChange();
      return Promise.resolve(() => undefined);
    },
    () => {
      throw new PicketError('unavailable', 'bpf', 'no');
    },
  );
  await (await begin()).stop();
  expect(lines.join('')).toContain('addresses_not_told');
});
