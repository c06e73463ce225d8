import { afterEach, describe, expect, test } from 'bun:test';
import { connect, type Socket } from 'node:net';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { Peeker } from '../../native/peek.ts';
import { IPPROTO_TCP, readSocketOption, SOL_SOCKET } from '../../native/socket-option.ts';
import { reasonOf } from '../../../tests/kit/reason-of.ts';
import { refusalOf } from '../../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { AHEAD_PLACES } from './ahead-places.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import { byteStreamContract } from './byte-stream-contract.ts';
import { dialTcp, listenTcp, type AcceptedSocket, type TcpListener, type TcpStream } from './tcp-stream.ts';

const SO_KEEPALIVE = { level: SOL_SOCKET, name: 9 };
const TCP_KEEPIDLE = { level: IPPROTO_TCP, name: 4 };
const TCP_KEEPINTVL = { level: IPPROTO_TCP, name: 5 };
const TCP_KEEPCNT = { level: IPPROTO_TCP, name: 6 };

const listeners: TcpListener[] = [];
const streams: TcpStream[] = [];
afterEach(() => {
  for (const listener of listeners.splice(0)) listener.stop();
  for (const stream of streams.splice(0)) stream.abort();
});

interface Accepted {
  readonly stream: TcpStream;
  readonly socket: AcceptedSocket;
}

function listenOn(address: string): { readonly port: number; readonly accepted: Accepted[] } {
  const accepted: Accepted[] = [];
  const listener = listenTcp({
    address,
    port: 0,
    onStream: (stream, socket) => {
      streams.push(stream);
      accepted.push({ stream, socket });
    },
  });
  listeners.push(listener);
  return { port: listener.port, accepted };
}

async function dial(port: number, address = '127.0.0.1'): Promise<TcpStream> {
  const stream = await dialTcp({ address, port, mark: 0, timeoutMs: 5000, clock: systemClock });
  streams.push(stream);
  return stream;
}

byteStreamContract('TcpStream', async () => {
  const { port, accepted } = listenOn('127.0.0.1');
  const near = await dial(port);
  const { stream: far } = await waitUntil('it is accepted', () => accepted[0]);
  return { near, far };
});

describe('listenTcp()', () => {
  test('tells both addresses and the descriptor, IPv4 in dotted form on a dual-stack listener too', async () => {
    for (const [listenAddress, address] of [
      ['127.0.0.1', '127.0.0.1'],
      ['::', '127.0.0.1'],
      ['::', '::1'],
    ] as const) {
      const { port, accepted } = listenOn(listenAddress);
      await dial(port, address);
      const { socket } = await waitUntil('it is accepted', () => accepted[0]);
      expect(socket.local).toEqual({ address, port });
      expect(socket.remote.address).toBe(address);
      expect(socket.remote.port).toBeGreaterThan(0);
      expect(socket.fd).toBeGreaterThan(2);
    }
  });

  test('has the kernel probe what it accepts', async () => {
    const { port, accepted } = listenOn('127.0.0.1');
    await dial(port);
    const { socket } = await waitUntil('it is accepted', () => accepted[0]);
    const [isOn, idle, interval, probes] = [SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT].map(
      (option) => readSocketOption(socket.fd, option, 4)?.readInt32LE(0),
    );
    expect([isOn, idle, interval, probes]).toEqual([1, 30, 1, 10]);
  });

  test('reads little of what comes before somebody reads it: the rest waits in the kernel', async () => {
    const { port, accepted } = listenOn('127.0.0.1');
    const near = await dial(port);
    near.attach(new CollectingReader());
    const { stream: far, socket } = await waitUntil('it is accepted', () => accepted[0]);
    const piece = Buffer.alloc(64 * 1024, 'a');
    let sent = 0;
    for (let isRoom = true; isRoom; sent += piece.length) isRoom = near.write(piece);
    const peeker = new Peeker(1);
    await waitUntil('it holds the writer back', () => peeker.peek(socket.fd)?.length === 1);
    await Bun.sleep(30);
    expect(peeker.peek(socket.fd)?.length).toBe(1);
    const reader = new CollectingReader();
    far.attach(reader);
    near.end();
    await waitUntil('all of it is there', () => reader.isEnded);
    expect(reader.length).toBe(sent);
  });

  test('reads ahead of few at once: of the others all waits in the kernel until somebody reads them, or the first are read', async () => {
    const { port, accepted } = listenOn('127.0.0.1');
    const peeker = new Peeker(1);
    const clients: Socket[] = [];
    const open = async (): Promise<Accepted> => {
      const index = accepted.length;
      const client = connect(port, '127.0.0.1');
      clients.push(client);
      client.write('first');
      return await waitUntil('it is accepted', () => accepted[index]);
    };
    const waits = ({ socket }: Accepted): boolean => peeker.peek(socket.fd)?.length === 1;
    try {
      const all: Accepted[] = [];
      for (let each = 0; each < AHEAD_PLACES + 3; each++) all.push(await open());
      const others = all.slice(AHEAD_PLACES);
      await waitUntil('the others wait', () => others.every(waits));
      await waitUntil('the first were read', () => !all.slice(0, AHEAD_PLACES).some(waits));
      expect(others.every(waits)).toBe(true);
      const readers = [all[0], others[0]].map((each) => {
        const reader = new CollectingReader();
        each?.stream.attach(reader);
        return reader;
      });
      await waitUntil('both are read', () => readers.every(({ text }) => text === 'first'));
      all[1]?.stream.abort();
      for (let each = 0; each < 2; each++) {
        const late = await open();
        await waitUntil('it is read ahead', () => !waits(late));
      }
      const last = await open();
      await waitUntil('it waits', () => waits(last));
    } finally {
      for (const client of clients) client.destroy();
    }
  });

  test('refuses a port that is taken', () => {
    const { port } = listenOn('127.0.0.1');
    expect(reasonOf(() => listenTcp({ address: '127.0.0.1', port, onStream: () => {} }))).toBe(
      'listen_failed',
    );
  });

  test('stop() takes no more connections and leaves those that there are', async () => {
    const { port, accepted } = listenOn('127.0.0.1');
    const near = await dial(port);
    const { stream: far } = await waitUntil('it is accepted', () => accepted[0]);
    listeners[0]!.stop();
    expect((await refusalOf(dial(port))).reason).toBe('dial_failed');
    const reader = new CollectingReader();
    far.attach(reader);
    near.write(Buffer.from('still here'));
    await waitUntil('the old connection works', () => reader.text === 'still here');
  });
});

describe('dialTcp()', () => {
  test('refuses with the symbol of a refusal', async () => {
    const { port } = listenOn('127.0.0.1');
    listeners.pop()!.stop();
    const refusal = await refusalOf(dial(port));
    expect([refusal.code, refusal.reason]).toEqual(['unavailable', 'dial_failed']);
    expect(refusal.message).toBe(`Cannot connect to 127.0.0.1:${port}: ECONNREFUSED`);
  });

  test('gives up a peer that does not answer in time', async () => {
    // A listener with a backlog of one whose queue is full: the kernel drops further SYNs.
    const program =
      'import socket,sys\ns=socket.socket();s.bind(("127.0.0.1",0));s.listen(0);print(s.getsockname()[1],flush=True);sys.stdin.read()';
    const child = Bun.spawn(['python3', '-c', program], { stdin: 'pipe', stdout: 'pipe' });
    try {
      const { value } = await child.stdout.getReader().read();
      const port = Number(new TextDecoder().decode(value));
      await dial(port);
      const refusal = await refusalOf(
        dialTcp({ address: '127.0.0.1', port, mark: 0, timeoutMs: 100, clock: systemClock }),
      );
      expect(refusal.message).toEndWith('ETIMEDOUT');
    } finally {
      await child.stdin.end();
      await child.exited;
    }
  });
});

test('TcpStream: abort() gives a foreign client ECONNRESET', async () => {
  const { port, accepted } = listenOn('127.0.0.1');
  const end = new Promise<string>((resolve) => {
    const client = connect(port, '127.0.0.1');
    client.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'));
    client.on('end', () => resolve('end'));
    client.resume();
  });
  const { stream } = await waitUntil('it is accepted', () => accepted[0]);
  stream.abort();
  expect(await end).toBe('ECONNRESET');
});

test('TcpStream: a peer that resets is a failure that names it', async () => {
  const { port, accepted } = listenOn('127.0.0.1');
  const near = await dial(port);
  const { stream } = await waitUntil('it is accepted', () => accepted[0]);
  const reader = new CollectingReader();
  stream.attach(reader);
  near.abort();
  await waitUntil('the failure is told', () => reader.closure);
  expect(reader.closure!.failure!.message).toContain('ECONNRESET');
});
