import { expect, test } from 'bun:test';
import { silentLog } from '../../../tests/kit/datastore.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { GateOpening } from './gate-opening.ts';

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
}

test('GateOpening tries again as time goes by, at once when it is told to hurry, and never twice at a time', async () => {
  const clock = new FakeClock();
  let [isTaken, tries, closed] = [true, 0, 0];
  let end: () => void = () => undefined;
  const opening = new GateOpening({
    open: async (onEnd) => {
      tries += 1;
      end = onEnd;
      await Promise.resolve();
      if (isTaken) throw new Error('EBUSY');
      return () => void (closed += 1);
    },
    onOpen: () => undefined,
    clock,
    log: silentLog,
  });
  opening.start();
  opening.hurry();
  await settle();
  expect([tries, opening.isOpen]).toEqual([1, false]);
  clock.advance(200);
  await settle();
  isTaken = false;
  opening.hurry();
  opening.hurry();
  await settle();
  expect([tries, opening.isOpen, clock.pending]).toEqual([3, true, 0]);
  opening.hurry();
  end();
  expect([tries, closed, opening.isOpen]).toEqual([3, 1, false]);
  opening.stop();
  opening.hurry();
  expect([tries, clock.pending]).toEqual([3, 0]);
});
