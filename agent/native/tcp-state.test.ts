import { afterAll, beforeAll, expect, test } from 'bun:test';
import { waitUntil } from '../../tests/kit/wait.ts';
import { closeDescriptor, dialMarked } from './dial.ts';
import { libc } from './libc.ts';
import { resetOnClose } from './reset.ts';
import { countUnsentBytes, isTcpOpen } from './tcp-state.ts';

const MSG_NOSIGNAL = 0x4000;

let listener: Bun.TCPSocketListener<undefined>;
let accepted: { readonly fd: number } | undefined;

beforeAll(() => {
  listener = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    allowHalfOpen: true,
    socket: {
      open: (socket) => void (accepted = socket as unknown as { readonly fd: number }),
      data: () => undefined,
    },
  });
});
afterAll(() => listener.stop(true));

async function accept(): Promise<{ readonly client: number; readonly server: number }> {
  accepted = undefined;
  const client = dialMarked({ address: '127.0.0.1', port: listener.port, mark: 0 });
  const { fd } = await waitUntil('it is accepted', () => accepted);
  return { client, server: fd };
}

/** Looks without giving the event loop a turn, in which it would close its own end. */
function becomes(isOpen: boolean, fd: number): boolean {
  for (let looks = 0; looks < 5000; looks++) {
    if (isTcpOpen(fd) === isOpen) return true;
    Bun.sleepSync(1);
  }
  return false;
}

test('isTcpOpen() is true of a connection, and not of one that was reset', async () => {
  const { client, server } = await accept();
  expect(isTcpOpen(server)).toBe(true);
  resetOnClose(client);
  closeDescriptor(client);
  expect(becomes(false, server)).toBe(true);
});

test('isTcpOpen() is true where the other side has said all that it has to say', async () => {
  const { client, server } = await accept();
  closeDescriptor(client);
  Bun.sleepSync(20);
  expect(isTcpOpen(server)).toBe(true);
});

test('isTcpOpen() is false of what is no connection', () => {
  expect(isTcpOpen(-1)).toBe(false);
});

test('countUnsentBytes() counts what the other end has not acknowledged', async () => {
  const { client, server } = await accept();
  expect([countUnsentBytes(client), countUnsentBytes(server), countUnsentBytes(-1)]).toEqual([0, 0, 0]);
  const bytes = Buffer.alloc(1 << 20);
  let sent = 0;
  // Until both kernels are full.
  for (let taken = 1; taken > 0; sent += Math.max(0, taken))
    taken = Number(libc().send(server, bytes, bytes.length, MSG_NOSIGNAL));
  const unsent = countUnsentBytes(server);
  expect([unsent > 0, unsent < sent]).toEqual([true, true]);
  for (let taken = 1; taken > 0;) taken = Number(libc().recv(client, bytes, bytes.length, 0));
  expect(countUnsentBytes(server)).toBeLessThan(unsent);
  closeDescriptor(client);
});
