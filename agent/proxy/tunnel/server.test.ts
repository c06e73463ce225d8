import { expect, spyOn, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { encodeFrame, FRAME_HEADER_BYTES, writeDataHeader } from '../../../shared/wire/tunnel-frame.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import { CLOSE_SOON_MS } from '../streams/last-bytes.ts';
import { CLOSE_MS } from '../relays/relay-timer.ts';
import { TunnelServer } from './server.ts';
import type { TunnelSocket } from './tunnel.ts';

/** A socket whose peer reads nothing. */
const deaf: TunnelSocket = {
  fd: -1,
  write: () => 0,
  pause: () => undefined,
  resume: () => undefined,
  shutdown: () => undefined,
  terminate: () => undefined,
};
/** A socket that takes everything until it is told otherwise, whose peer closes nothing. */
class SlowSocket implements TunnelSocket {
  readonly fd = -1;
  room = Infinity;
  isTerminated = false;
  readonly pause = (): void => undefined;
  readonly resume = this.pause;
  readonly shutdown = this.pause;

  write(_bytes: Uint8Array, _offset: number, length: number): number {
    const taken = Math.min(length, this.room);
    this.room -= taken;
    return taken;
  }

  terminate(): void {
    this.isTerminated = true;
  }
}
const address = { address: Uint8Array.of(192, 0, 2, 1), port: 80 };
const open = encodeFrame({
  type: 'open',
  connectionId: crypto.randomUUID(),
  destination: address,
  source: address,
});

function dataOf(text: string): Uint8Array {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + text.length);
  writeDataHeader(frame, 0, text.length);
  frame.write(text, FRAME_HEADER_BYTES);
  return frame;
}

/** A server that denies every opening, and what became of it. */
function startServer({ socket = deaf, clock = new FakeClock(), accepts = false } = {}) {
  const told = {
    denied: 0,
    failure: undefined as StreamFailure | undefined,
    stream: undefined as ByteStream | undefined,
  };
  const server = new TunnelServer({
    socket,
    clock,
    openingMs: 1000,
    onOpening: (opening) => {
      if (accepts) return void (told.stream = opening.accept());
      told.denied += 1;
      opening.deny({ reason: 'listener_not_registered', message: 'Nothing is registered there' });
    },
    onIdle: () => undefined,
    onBroken: () => undefined,
    onClosed: (failure) => (told.failure = failure),
  });
  return { server, wire: server.wire, told };
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

test('TunnelServer hands over together what came together in small pieces, before the end behind it', async () => {
  const { wire, told } = startServer({ socket: new SlowSocket(), accepts: true });
  wire.received(open);
  const reader = new CollectingReader();
  const onData = spyOn(reader, 'onData');
  told.stream?.attach(reader);
  const pieces = Array.from({ length: 10_000 }, (_, i) => dataOf(`${i % 10}`));
  wire.received(Buffer.concat([...pieces, dataOf('x'.repeat(2000)), encodeFrame({ type: 'end' })]));
  await Promise.resolve();
  expect(reader.text).toBe('0123456789'.repeat(1000) + 'x'.repeat(2000));
  expect(reader.isEnded).toBe(true);
  expect(onData.mock.calls.length).toBeLessThan(5);
});

test('TunnelServer answers every ping, and ends a client that asks again before it can have been answered', () => {
  const socket = new SlowSocket();
  const write = spyOn(socket, 'write');
  const { wire, told } = startServer({ socket });
  const ping = encodeFrame({ type: 'ping' });
  wire.received(ping);
  wire.received(ping);
  expect([write.mock.calls.length, told.failure]).toEqual([2, undefined]);
  wire.received(Buffer.concat(Array.from({ length: 10_000 }, () => ping)));
  expect(told.failure).toMatchObject({ reason: 'protocol_error' });
  // One answer, and why it ends.
  expect(write.mock.calls.length).toBe(4);
});

/** A server whose answer of 1,000 bytes has ended, and waits for a client that takes none of it. */
function answerSlowly() {
  const [socket, clock] = [new SlowSocket(), new FakeClock()];
  const { server, wire, told } = startServer({ socket, clock, accepts: true });
  wire.received(Buffer.concat([open, encodeFrame({ type: 'end' })]));
  socket.room = 0;
  told.stream?.write(Buffer.alloc(1000));
  told.stream?.end();
  return { socket, clock, server, wire, told };
}

test('TunnelServer carries a connection that has ended until its last byte has left, and closes after that', () => {
  const { socket, clock, server, wire, told } = answerSlowly();
  server.retire();
  clock.advance(10 * CLOSE_MS);
  expect([wire.isOpen, server.isIdle, told.failure]).toEqual([true, false, undefined]);
  socket.room = Infinity;
  wire.drained();
  expect([wire.isOpen, socket.isTerminated, told.failure]).toEqual([false, false, undefined]);
  clock.advance(CLOSE_MS);
  expect([socket.isTerminated, told.failure?.message]).toEqual([true, 'The connection was closed']);
});

test('TunnelServer waits less for the client that it leaves where others want its place, or nothing was carried lately', () => {
  const crowded = answerSlowly();
  crowded.socket.room = Infinity;
  crowded.wire.drained();
  crowded.server.giveWay();
  const unused = { socket: new SlowSocket(), clock: new FakeClock() };
  startServer(unused).server.retire();
  for (const { socket, clock } of [crowded, unused]) {
    clock.advance(CLOSE_SOON_MS - 1);
    expect(socket.isTerminated).toBe(false);
    clock.advance(1);
    expect(socket.isTerminated).toBe(true);
  }
});

test('TunnelServer cuts a connection that it is leaving', () => {
  const { socket, server, wire, told } = answerSlowly();
  socket.room = Infinity;
  wire.drained();
  server.retire();
  wire.reset({ reason: 'caller_untrusted', message: 'It has ended' });
  expect([socket.isTerminated, told.failure?.reason]).toEqual([true, 'caller_untrusted']);
});
