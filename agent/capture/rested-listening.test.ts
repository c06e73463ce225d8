import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import type { AskedDatagram, GateListener } from './datagram-gate.ts';
import { MAX_HEARD, RestedListening } from './rested-listening.ts';

const ASKED: AskedDatagram = {
  uid: 1000,
  source: { address: '10.8.1.2', port: 5000 },
  destination: { address: '192.0.2.9', port: 9000 },
  payload: Buffer.from('x'),
  interfaceIndex: 2,
};

/** A log that one listener at a time may have, and what came of it. */
class FakeLog {
  listener: GateListener | undefined;
  isTaken = false;
  hasTime = true;
  heard = 0;
  lost = 0;
  ends = 0;
  readonly clock = new FakeClock();
  readonly listening = new RestedListening({
    open: async (listener) => {
      await Promise.resolve();
      if (this.isTaken) throw new Error('EBUSY');
      this.listener = listener;
      return () => (this.listener = undefined);
    },
    listener: {
      onDatagram: () => {
        if (this.hasTime) this.heard += 1;
        return this.hasTime;
      },
      onLost: (datagrams) => (this.lost += datagrams),
      onEnd: () => (this.ends += 1),
    },
    clock: this.clock,
  });

  send(datagrams: number): void {
    for (let n = 0; n < datagrams; n++) this.listener?.onDatagram(ASKED);
  }
}

test('RestedListening stops listening where more comes in a second than it hears, and begins again after it', async () => {
  const log = new FakeLog();
  await log.listening.start();
  log.send(MAX_HEARD);
  log.clock.advance(1000);
  log.send(MAX_HEARD);
  expect([log.heard, log.lost]).toEqual([2 * MAX_HEARD, 0]);
  log.clock.advance(600);
  log.send(9);
  expect([log.heard, log.lost, log.listener]).toEqual([2 * MAX_HEARD, 1, undefined]);
  log.clock.advance(399);
  expect(log.listener).toBeUndefined();
  log.clock.advance(1);
  await Promise.resolve();
  await Promise.resolve();
  log.send(1);
  expect(log.heard).toBe(2 * MAX_HEARD + 1);
  log.listening.stop();
  expect(log.listener).toBeUndefined();
});

test('RestedListening tells of its end where it cannot begin again, and begins no more once it was stopped', async () => {
  const log = new FakeLog();
  await log.listening.start();
  log.send(MAX_HEARD + 1);
  log.isTaken = true;
  log.clock.advance(1000);
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  expect(log.ends).toBe(1);
  log.isTaken = false;
  const other = new FakeLog();
  await other.listening.start();
  other.send(MAX_HEARD + 1);
  other.listening.stop();
  other.clock.advance(1000);
  await Promise.resolve();
  expect([other.listener, other.ends]).toEqual([undefined, 0]);
});

test('RestedListening stops listening for the rest of the second where there is no time for what it hears', async () => {
  const log = new FakeLog();
  await log.listening.start();
  log.send(1);
  log.clock.advance(300);
  log.hasTime = false;
  log.send(5);
  expect([log.heard, log.lost, log.listener]).toEqual([1, 0, undefined]);
  log.hasTime = true;
  log.clock.advance(700);
  await Promise.resolve();
  await Promise.resolve();
  log.send(1);
  expect(log.heard).toBe(2);
  log.listening.stop();
});
