import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeDescriptor } from './dial.ts';
import { findPeerCredentials, isPidfdAlive, openPeerPidfd } from './peer-credentials.ts';

let folder: string;
let server: Server;
let path: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-peer-'));
  path = join(folder, 's.sock');
  server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
});

afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

async function acceptFrom(command: string[]): Promise<{ child: Bun.Subprocess; socket: Socket; fd: number }> {
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const child = Bun.spawn(command, { stdin: 'pipe', stdout: 'ignore', stderr: 'ignore' });
  const socket = await accepted;
  return { child, socket, fd: (socket as unknown as { _handle: { fd: number } })._handle.fd };
}

test('findPeerCredentials() names the process that connected, with its uid and gid', async () => {
  const { child, socket, fd } = await acceptFrom(['nc', '-U', path]);
  expect(findPeerCredentials(fd)).toEqual({
    pid: child.pid,
    uid: process.getuid!(),
    gid: process.getgid!(),
  });
  child.kill();
  socket.destroy();
});

test('isPidfdAlive() is false once the process of openPeerPidfd() has ended', async () => {
  const { child, socket, fd } = await acceptFrom(['nc', '-U', path]);
  const pidfd = openPeerPidfd(fd);
  expect(pidfd).toBeDefined();
  expect(isPidfdAlive(pidfd!)).toBe(true);
  child.kill('SIGKILL');
  await child.exited;
  expect(isPidfdAlive(pidfd!)).toBe(false);
  closeDescriptor(pidfd!);
  socket.destroy();
});

test('findPeerCredentials() names nobody on a descriptor that is no socket', () => {
  expect(findPeerCredentials(-1)).toBeUndefined();
  expect(openPeerPidfd(-1)).toBeUndefined();
});
