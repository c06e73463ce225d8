import { afterAll, afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listenOnDescriptor } from '../../shared/runtime/unix-socket.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { freePort } from '../../tests/kit/free-port.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { closeDescriptor } from '../native/dial.ts';
import { findTcpListener, openTcpListener, openUnixListener } from '../native/listening-socket.ts';
import { ListeningSockets, type ListeningSocket } from './listening-sockets.ts';

const folder = mkdtempSync(join(tmpdir(), 'picket-sockets-'));
let path: string;
let made = 0;
const stops: (() => void)[] = [];

beforeEach(() => {
  path = join(folder, `${++made}.sock`);
});

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Answers `first` to whoever connects; what it returns stops it. */
function serveTcp(listening: ListeningSocket): () => void {
  const socket = { open: (each: Bun.Socket) => void each.end('first'), data: () => undefined };
  const listener = Bun.listen({ fd: listening.fd, socket } as unknown as Bun.TCPSocketListenOptions);
  const stop = (): void => {
    listener.stop(false);
    listening.closed();
  };
  stops.push(stop);
  return stop;
}

async function serveUnix(listening: ListeningSocket): Promise<() => void> {
  const server: Server = createServer((each) => each.end('first'));
  await listenOnDescriptor(server, listening.fd);
  const stop = (): void => {
    server.close();
    listening.closed();
  };
  stops.push(stop);
  return stop;
}

async function ask(
  to: { readonly port: number; readonly host: string } | { readonly path: string },
): Promise<string> {
  return await new Promise((resolve) => {
    let said = '';
    const client = connect(to);
    client.on('data', (bytes) => (said += bytes.toString()));
    client.once('end', () => resolve(said));
    client.once('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? error.message));
  });
}

function onlyOf(listening: readonly ListeningSocket[]): ListeningSocket {
  const [first] = listening;
  if (first === undefined || listening.length > 1) throw new RangeError('There is not one socket');
  return first;
}

describe('ListeningSockets', () => {
  test('hands a port and a path on to another process without refusing anybody', async () => {
    const sockets = new ListeningSockets();
    const tcp = onlyOf(sockets.tcp({ address: '127.0.0.1', port: 0 }));
    const unix = await sockets.unix(path, 0o666);
    expect(statSync(path).mode & 0o777).toBe(0o666);
    const stopTcp = serveTcp(tcp);
    const stopUnix = await serveUnix(unix);
    const seen = new Set<string>();
    const asks = new AbortController();
    const over = asks.signal;
    const asking = Promise.all(
      [{ host: '127.0.0.1', port: tcp.port }, { path }].map(async (to) => {
        while (!over.aborted) seen.add(await ask(to));
      }),
    );
    const child = Bun.spawn(
      [process.execPath, join(import.meta.dirname, 'fixtures/second-process.ts'), String(tcp.port), path],
      { stdio: ['ignore', 'pipe', 'inherit', ...sockets.list().map(({ fd }) => fd)] },
    );
    stops.push(() => child.kill());
    await child.stdout.getReader().read();
    sockets.handOn();
    stopTcp();
    stopUnix();
    await waitUntil(
      'the second process alone answers',
      async () =>
        (await ask({ host: '127.0.0.1', port: tcp.port })) === 'second' && (await ask({ path })) === 'second',
    );
    asks.abort();
    await asking;
    expect([...seen].toSorted()).toEqual(['first', 'second']);
    expect(existsSync(path)).toBe(true);
  });

  test('removes the file of a socket that was not handed on', async () => {
    const stop = await serveUnix(await new ListeningSockets().unix(path, 0o600));
    stop();
    expect(existsSync(path)).toBe(false);
  });

  test('takes no inherited descriptor for what it is not', async () => {
    const other = openTcpListener({ address: '127.0.0.1', port: 0 });
    const wanted = openTcpListener({ address: '127.0.0.1', port: 0 });
    const port = findTcpListener(wanted)?.port ?? 0;
    const sockets = new ListeningSockets();
    sockets.inherit(
      new Map([
        [`tcp 127.0.0.1 ${port}`, other],
        [`unix ${path}`, wanted],
        ['tcp 127.0.0.1 9', 99_999],
      ]),
    );
    // It is taken, and not by what was said to be it.
    expect(reasonOf(() => sockets.tcp({ address: '127.0.0.1', port }))).toBe('listen_failed');
    const unix = await sockets.unix(path, 0o600);
    expect([other, wanted]).not.toContain(unix.fd);
    await serveUnix(unix);
    sockets.closeUnused();
    expect(findTcpListener(other)).toBeUndefined();
    expect(findTcpListener(wanted)).toBeUndefined();
  });

  test('closes what was inherited and is not wanted any more, with the file of its socket', () => {
    const gone = join(folder, 'gone.sock');
    const sockets = new ListeningSockets();
    sockets.inherit(new Map([[`unix ${gone}`, openUnixListener(gone)]]));
    sockets.closeUnused();
    expect(existsSync(gone)).toBe(false);
  });

  test('one process goes on with all sockets that several had at an address, and the other way round', () => {
    const at = { address: '127.0.0.1', port: freePort() };
    const several = new ListeningSockets();
    const fds = [0, 1].map((index) => several.sharedTcp(at, index).fd);
    const alone = new ListeningSockets();
    alone.inherit(new Map(several.list().map(({ name, fd }) => [name, fd])));
    expect(alone.countInherited(at)).toBe(2);
    expect(alone.tcp(at).map(({ fd }) => fd)).toEqual(fds);
    expect(alone.countInherited(at)).toBe(0);
    expect(alone.list()).toEqual(several.list());
    for (const fd of fds) closeDescriptor(fd);

    const one = new ListeningSockets();
    const { fd } = onlyOf(one.tcp(at));
    const many = new ListeningSockets();
    many.inherit(new Map([[`tcp ${at.address} ${at.port}`, fd]]));
    expect(many.countInherited(at)).toBe(1);
    expect(many.sharedTcp(at, 0).fd).toBe(fd);
    // Nobody could join it before.
    const second = many.sharedTcp(at, 1);
    expect(findTcpListener(second.fd)).toEqual(at);
    for (const each of [fd, second.fd]) closeDescriptor(each);
  });

  test('tells what it holds until that is closed', () => {
    const sockets = new ListeningSockets();
    const socket = onlyOf(sockets.tcp({ address: '127.0.0.1', port: 0 }));
    expect(sockets.list()).toEqual([{ name: 'tcp 127.0.0.1 0', fd: socket.fd }]);
    serveTcp(socket)();
    expect(sockets.list()).toEqual([]);
  });

  test('refuses a path at which somebody else answers', async () => {
    await serveUnix(await new ListeningSockets().unix(path, 0o600));
    expect(await refusalOf(new ListeningSockets().unix(path, 0o600))).toMatchObject({
      reason: 'listen_failed',
    });
  });
});
