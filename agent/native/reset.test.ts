import { expect, test } from 'bun:test';
import { connect } from 'node:net';
import { resetOnClose } from './reset.ts';

/** How a client's connection ends when the server does `close` with it in `open`. */
async function endOf(close: (socket: Bun.Socket) => void): Promise<string> {
  const server = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data: (socket) => close(socket) } });
  try {
    return await new Promise<string>((resolve) => {
      const client = connect(server.port, '127.0.0.1', () => client.write('hello'));
      client.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'));
      client.on('end', () => resolve('end'));
      client.resume();
    });
  } finally {
    server.stop(true);
  }
}

function descriptorOf(socket: Bun.Socket): number {
  return (socket as unknown as { readonly fd: number }).fd;
}

test('resetOnClose() followed by terminate() gives the client ECONNRESET', async () => {
  const end = await endOf((socket) => {
    resetOnClose(descriptorOf(socket));
    socket.terminate();
  });
  expect(end).toBe('ECONNRESET');
});

test('end() alone gives the client an ordinary end', async () => {
  expect(await endOf((socket) => socket.end())).toBe('end');
});

test('resetOnClose() refuses what is no socket', () => {
  expect(() => resetOnClose(-1)).toThrow(
    expect.objectContaining({ code: 'unavailable', reason: 'socket_option' }),
  );
});
