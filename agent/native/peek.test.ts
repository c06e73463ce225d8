import { expect, test } from 'bun:test';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { Peeker } from './peek.ts';
import { closeDescriptor, dialMarked } from './dial.ts';
import { resetOnClose } from './reset.ts';

/** A connection of which one end is a bare descriptor, which nothing reads. */
async function openPair(): Promise<{ fd: number; peer: Socket; close: () => void }> {
  const server = createServer();
  const accepted = new Promise<Socket>((resolve) => server.on('connection', resolve));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const fd = dialMarked({ address: '127.0.0.1', port: (server.address() as AddressInfo).port, mark: 0 });
  const peer = await accepted;
  return {
    fd,
    peer,
    close: () => {
      closeDescriptor(fd);
      peer.destroy();
      server.close();
    },
  };
}

async function peekUntil(peeker: Peeker, fd: number, isDone: (bytes: Buffer) => boolean): Promise<Buffer> {
  const end = performance.now() + 30_000;
  for (;;) {
    const bytes = peeker.peek(fd);
    if (bytes !== undefined && isDone(bytes)) return Buffer.from(bytes);
    if (performance.now() > end) throw new Error('nothing to peek at within 30 s');
    await Bun.sleep(1);
  }
}

test('Peeker.peek() sees the same bytes again, and more as they come', async () => {
  const { fd, peer, close } = await openPair();
  const peeker = new Peeker(64);
  expect(peeker.peek(fd)).toBeUndefined();
  peer.write('abc');
  expect(String(await peekUntil(peeker, fd, (bytes) => bytes.length === 3))).toBe('abc');
  expect(String(peeker.peek(fd))).toBe('abc');
  peer.write('def');
  expect(String(await peekUntil(peeker, fd, (bytes) => bytes.length === 6))).toBe('abcdef');
  close();
});

test('Peeker.peek() sees no more than its capacity', async () => {
  const { fd, peer, close } = await openPair();
  peer.write(Buffer.alloc(1000, 'x'));
  expect((await peekUntil(new Peeker(10), fd, (bytes) => bytes.length > 0)).length).toBe(10);
  close();
});

test('Peeker.peek() gives an empty view when the peer has ended', async () => {
  const { fd, peer, close } = await openPair();
  peer.end();
  expect((await peekUntil(new Peeker(10), fd, () => true)).length).toBe(0);
  close();
});

test('Peeker.peek() throws when the peer has reset the connection', async () => {
  const { fd, peer, close } = await openPair();
  resetOnClose((peer as unknown as { _handle: { fd: number } })._handle.fd);
  peer.destroy();
  const error: unknown = await peekUntil(new Peeker(10), fd, () => true).catch((error: unknown) => error);
  expect(error).toMatchObject({
    code: 'unavailable',
    reason: 'peek_failed',
    message: 'Cannot peek at a connection: ECONNRESET',
  });
  close();
});
