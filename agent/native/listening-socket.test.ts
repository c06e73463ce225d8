import { afterEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { closeDescriptor } from './dial.ts';
import { findTcpListener, findUnixListener, openTcpListener, openUnixListener } from './listening-socket.ts';

const folder = mkdtempSync(join(tmpdir(), 'picket-listen-'));
const open: number[] = [];

afterEach(() => {
  for (const fd of open.splice(0)) closeDescriptor(fd);
  rmSync(folder, { recursive: true, force: true });
});

function tcp(address: string, port = 0): number {
  const fd = openTcpListener({ address, port });
  open.push(fd);
  return fd;
}

/** What a client reads, or its error. */
async function ask(
  to: { readonly port: number; readonly host: string } | { readonly path: string },
): Promise<string> {
  return await new Promise((resolve) => {
    const client = connect(to);
    client.once('data', (bytes) => {
      resolve(bytes.toString());
      client.destroy();
    });
    client.once('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? error.message));
  });
}

describe('openTcpListener()', () => {
  test.each([
    ['127.0.0.1', ['127.0.0.1']],
    ['::1', ['::1']],
    ['::', ['127.0.0.1', '::1']],
  ])('on %s takes connections by %p', async (address, hosts) => {
    const fd = openTcpListener({ address, port: 0 });
    const at = findTcpListener(fd);
    expect(at?.address).toBe(address);
    const handlers = { open: (socket: Bun.Socket) => void socket.end('here'), data: () => undefined };
    const listener = Bun.listen({ fd, socket: handlers } as unknown as Bun.TCPSocketListenOptions);
    for (const host of hosts) expect(await ask({ host, port: at?.port ?? 0 })).toBe('here');
    listener.stop(true);
  });

  test('refuses a port that is taken, and an address that is not of this host', () => {
    const port = findTcpListener(tcp('127.0.0.1'))?.port ?? 0;
    expect(reasonOf(() => openTcpListener({ address: '127.0.0.1', port }))).toBe('listen_failed');
    expect(reasonOf(() => openTcpListener({ address: '192.0.2.1', port: 0 }))).toBe('listen_failed');
  });
});

describe('openUnixListener()', () => {
  test('takes connections at a path, and refuses one that is taken or too long', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'picket-listen-')), 'a.sock');
    const fd = openUnixListener(path);
    open.push(fd);
    expect(findUnixListener(fd)).toBe(path);
    expect(findTcpListener(fd)).toBeUndefined();
    expect(reasonOf(() => openUnixListener(path))).toBe('listen_failed');
    expect(reasonOf(() => openUnixListener(`/${'a'.repeat(107)}`))).toBe('listen_failed');
  });
});

test('findTcpListener() and findUnixListener() know no other descriptor', async () => {
  const fd = tcp('127.0.0.1');
  const client = connect(findTcpListener(fd)?.port ?? 0, '127.0.0.1');
  await new Promise<void>((resolve) => client.once('connect', () => resolve()));
  const connected = (client as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
  for (const other of [connected, 0, -1, 9999]) {
    expect(findTcpListener(other)).toBeUndefined();
    expect(findUnixListener(other)).toBeUndefined();
  }
  client.destroy();
});
