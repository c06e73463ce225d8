import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hono } from 'hono';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { CrowdTally } from '../../../shared/runtime/crowd-tally.ts';
import type { Running } from '../../../shared/runtime/shutdown.ts';
import { silentLog } from '../../../tests/kit/datastore.ts';
import { refusalOf } from '../../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import type { HttpEnvironment } from '../mount-routes.ts';
import { peerConnectionOf } from '../peer-connection.ts';
import { startUnixListener, type FindPeerCredentials } from './unix-listener.ts';

const UID = 7001;
let folder: string;
let path: string;
const running: Running[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'picket-unix-listener-'));
  path = join(folder, 'server.sock');
});
afterEach(async () => {
  for (const each of running.splice(0)) await each.stop();
  rmSync(folder, { recursive: true });
});

async function start(
  options: { readonly app?: Hono<HttpEnvironment>; readonly findPeerCredentials?: FindPeerCredentials } = {},
): Promise<Running> {
  const app = options.app ?? new Hono<HttpEnvironment>();
  app.get('/peer', (context) => {
    const { localUid, remoteAddress, peerChain } = peerConnectionOf(context.env);
    return context.json({ localUid, remoteAddress, chain: peerChain.length });
  });
  const listener = await startUnixListener({
    path,
    findPeerCredentials: options.findPeerCredentials ?? (() => ({ uid: UID })),
    fetch: app.fetch,
    crowd: new CrowdTally(systemClock),
    limits: DEFAULT_LIMITS,
    clock: systemClock,
    log: silentLog,
  });
  running.push(listener);
  return listener;
}

const ask = async (route = '/peer'): Promise<Response> =>
  await fetch(`http://picket${route}`, { unix: path });

describe('startUnixListener()', () => {
  test('tells each request the uid that the kernel names, and no certificate', async () => {
    await start();
    expect(await (await ask()).json()).toEqual({ localUid: UID, remoteAddress: 'local', chain: 0 });
  });

  test('closes a connection whose peer the kernel does not name', async () => {
    let asked = 0;
    const app = new Hono<HttpEnvironment>();
    app.use(async (_context, next) => {
      asked += 1;
      await next();
    });
    await start({ app, findPeerCredentials: () => undefined });
    expect(await ask().catch(() => 'closed')).toBe('closed');
    expect(asked).toBe(0);
  });

  test('lets the owner and the group of the socket connect, nobody else', async () => {
    await start();
    expect(statSync(path).mode & 0o777).toBe(0o660);
  });

  test('takes the place of a socket that a dead server left', async () => {
    const left = Bun.spawnSync([
      'python3',
      '-c',
      'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])',
      path,
    ]);
    expect([left.exitCode, statSync(path).isSocket()]).toEqual([0, true]);
    await start();
    expect((await ask()).status).toBe(200);
  });

  test('leaves a living server its socket', async () => {
    const other = createServer((socket) => socket.end());
    await new Promise<void>((resolve) => other.listen(path, resolve));
    expect(await refusalOf(start())).toMatchObject({ code: 'unavailable', reason: 'listen_failed' });
    expect(existsSync(path)).toBe(true);
    await new Promise((resolve) => other.close(resolve));
  });

  test('leaves a file that is no socket as it is', async () => {
    writeFileSync(path, 'precious');
    expect(await refusalOf(start())).toMatchObject({ code: 'unavailable', reason: 'listen_failed' });
    expect(await Bun.file(path).text()).toBe('precious');
  });

  test('stop() lets a request under way end, then removes the socket', async () => {
    const gate = Promise.withResolvers<void>();
    let isInside = false;
    const app = new Hono<HttpEnvironment>();
    app.get('/slow', async (context) => {
      isInside = true;
      await gate.promise;
      return context.text('done');
    });
    const listener = await start({ app });
    const answer = ask('/slow');
    await waitUntil('the request is under way', () => isInside);
    const stopped = listener.stop();
    gate.resolve();
    expect(await (await answer).text()).toBe('done');
    await stopped;
    expect(existsSync(path)).toBe(false);
  });
});
