import { expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { encodeFrame } from '../../../shared/wire/tunnel-frame.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { TunnelServer } from './server.ts';

/** A socket whose peer reads nothing. */
const deaf = {
  write: () => 0,
  pause: () => undefined,
  resume: () => undefined,
  shutdown: () => undefined,
  terminate: () => undefined,
};
const address = { address: Uint8Array.of(192, 0, 2, 1), port: 80 };
const open = encodeFrame({
  type: 'open',
  connectionId: crypto.randomUUID(),
  destination: address,
  source: address,
});

/** A server that denies every opening, and what became of it. */
function startServer() {
  const told = { denied: 0, failure: undefined as StreamFailure | undefined };
  const { wire } = new TunnelServer({
    socket: deaf,
    clock: new FakeClock(),
    openingMs: 1000,
    onOpening: (opening) => {
      told.denied += 1;
      opening.deny({ reason: 'listener_not_registered', message: 'Nothing is registered there' });
    },
    onIdle: () => undefined,
    onBroken: () => undefined,
    onClosed: (failure) => (told.failure = failure),
  });
  return { wire, told };
}

test('TunnelServer ends a client that asks for one connection after another and reads no denial', () => {
  const { wire, told } = startServer();
  for (let i = 0; i < 100_000; i++) wire.received(open);
  expect(told.denied).toBeLessThan(20_000);
  expect(told.failure).toMatchObject({ reason: 'protocol_error' });
});

test('TunnelServer ends a client that asks again before it can have been answered', () => {
  const { wire, told } = startServer();
  wire.received(open);
  wire.received(Buffer.concat([open, open]));
  expect(told.denied).toBe(2);
  expect(told.failure).toMatchObject({ reason: 'protocol_error' });
});

test('TunnelServer takes one word of a client that it leaves, and no opening after it', () => {
  const leave = encodeFrame({ type: 'retire' });
  const twice = startServer();
  twice.wire.received(leave);
  expect(twice.told.failure).toBeUndefined();
  twice.wire.received(leave);
  expect(twice.told.failure).toMatchObject({ reason: 'protocol_error' });
  const asking = startServer();
  asking.wire.received(leave);
  asking.wire.received(open);
  expect([asking.told.denied, asking.told.failure]).toMatchObject([0, { reason: 'protocol_error' }]);
});
