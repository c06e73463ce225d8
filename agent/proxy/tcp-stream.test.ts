import { afterEach, describe, expect, test } from 'bun:test';
import { connect } from 'node:net';
import { systemClock } from '../../shared/runtime/clock.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { byteStreamContract, CollectingReader } from './byte-stream-contract.ts';
import { dialTcp, listenTcp, type AcceptedSocket, type TcpListener, type TcpStream } from './tcp-stream.ts';

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
