import { afterEach, expect, test } from 'bun:test';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { readdirSync } from 'node:fs';
import { closeDescriptor, dialMarked, socketError } from './dial.ts';
import { IPPROTO_TCP, readSocketOption, SOL_SOCKET } from './socket-option.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listenOn(host: string): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => {}).pipe(socket));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as AddressInfo).port;
}

for (const address of ['127.0.0.1', '::1'])
  test(`dialMarked() gives a descriptor that Bun.connect() takes over, to ${address}`, async () => {
    const port = await listenOn(address);
    const fd = dialMarked({ address, port, mark: 0 });
    const answer = await new Promise<string>((resolve, reject) => {
      const handlers: Bun.SocketHandler = {
        drain: (socket) => void socket.write('hello'),
        data: (socket, data) => {
          resolve(data.toString());
          socket.end();
        },
        error: (_, error) => reject(error),
      };
      void Bun.connect({ fd, socket: handlers } as unknown as Bun.TCPSocketConnectOptions);
    });
    expect(answer).toBe('hello');
  });

test('dialMarked() sets the mark before it connects, TCP_NODELAY and keepalive', async () => {
  const fd = dialMarked({ address: '127.0.0.1', port: await listenOn('127.0.0.1'), mark: 0x5049 });
  expect(readSocketOption(fd, { level: SOL_SOCKET, name: 36 }, 4)?.readUInt32LE(0)).toBe(0x5049);
  expect(readSocketOption(fd, { level: IPPROTO_TCP, name: 1 }, 4)?.readUInt32LE(0)).toBe(1);
  expect(readSocketOption(fd, { level: SOL_SOCKET, name: 9 }, 4)?.readUInt32LE(0)).toBe(1);
  closeDescriptor(fd);
});

test('socketError() names a refusal once', async () => {
  const port = await listenOn('127.0.0.1');
  await new Promise<void>((resolve) => servers.pop()!.close(() => resolve()));
  const fd = dialMarked({ address: '127.0.0.1', port, mark: 0 });
  expect(socketError(fd)).toBe('ECONNREFUSED');
  expect(socketError(fd)).toBeUndefined();
  closeDescriptor(fd);
});

test('socketError() names a descriptor that is no socket', () => {
  expect(socketError(-1)).toBe('EBADF');
});

test('dialMarked() leaves no descriptor behind when it cannot connect', () => {
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 200; i++)
    expect(() => dialMarked({ address: 'fe80::1', port: 80, mark: 0 })).toThrow(
      expect.objectContaining({ code: 'unavailable', reason: 'dial_failed' }),
    );
  // What else is open comes and goes meanwhile.
  expect(readdirSync('/proc/self/fd').length).toBeLessThan(before + 100);
});

test('dialMarked() refuses what is no address', () => {
  expect(() => dialMarked({ address: 'localhost', port: 80, mark: 0 })).toThrow(TypeError);
});
