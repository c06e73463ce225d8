import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { claimSocketPath, listenAtPath } from './unix-socket.ts';

let root: string;
let path: string;
let made = 0;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'picket-socket-'));
});

beforeEach(() => {
  path = join(root, `run-${++made}`, 'a.sock');
});

afterAll(() => rmSync(root, { recursive: true }));

async function listening(mode = 0o600): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  await listenAtPath(server, path, mode);
  return server;
}

test('claimSocketPath() makes the folder, and listenAtPath() gives the socket its mode', async () => {
  await claimSocketPath(path);
  const server = await listening(0o666);
  expect(statSync(path).mode & 0o777).toBe(0o666);
  server.close();
});

test('claimSocketPath() removes the socket of a process that was killed', async () => {
  mkdirSync(join(root, `run-${made}`));
  const child = Bun.spawn(['nc', '-lU', path], { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' });
  await waitUntil('nc listens', () => existsSync(path));
  child.kill('SIGKILL');
  await child.exited;
  expect(existsSync(path)).toBe(true);
  await claimSocketPath(path);
  expect(existsSync(path)).toBe(false);
});

test('claimSocketPath() refuses a path at which a living process answers', async () => {
  await claimSocketPath(path);
  const server = await listening();
  expect(await refusalOf(claimSocketPath(path))).toMatchObject({
    code: 'unavailable',
    reason: 'listen_failed',
  });
  expect(existsSync(path)).toBe(true);
  server.close();
});

test('claimSocketPath() refuses a file that is no socket and leaves it alone', async () => {
  mkdirSync(join(root, `run-${made}`));
  writeFileSync(path, 'precious');
  expect(await refusalOf(claimSocketPath(path))).toMatchObject({ reason: 'listen_failed' });
  expect(existsSync(path)).toBe(true);
});

test.each([0o777, 0o775, 0o1777])(
  'claimSocketPath() refuses a folder of mode %o, in which others may write',
  async (mode) => {
    const folder = join(root, `run-${made}`);
    mkdirSync(folder);
    chmodSync(folder, mode);
    expect(await refusalOf(claimSocketPath(path))).toMatchObject({
      code: 'failed_precondition',
      reason: 'socket_folder_unsafe',
    });
  },
);
