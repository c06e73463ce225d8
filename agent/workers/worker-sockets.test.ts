import { afterEach, describe, expect, test } from 'bun:test';
import { freePort } from '../../tests/kit/free-port.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { ListeningSockets } from '../handover/listening-sockets.ts';
import { libc } from '../native/libc.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import { findTcpListener, openTcpListener } from '../native/listening-socket.ts';
import { GivenSockets, requireFree, WorkerSockets } from './worker-sockets.ts';

const stops: (() => void)[] = [];

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function openSockets(at: SocketAddress, workers: number, sockets: ListeningSockets): WorkerSockets {
  return new WorkerSockets({ addresses: [{ ...at, by: 'source' }], workers, sockets });
}

/** What another process gets of `sockets`. */
function handOn(sockets: ListeningSockets): ListeningSockets {
  const next = new ListeningSockets();
  next.inherit(new Map(sockets.list().map(({ name, fd }) => [name, fd])));
  return next;
}

function listenersOf(sockets: WorkerSockets, workers: number): readonly (readonly number[])[] {
  return Array.from({ length: workers }, (_, worker) => sockets.of(worker).descriptors);
}

describe('WorkerSockets', () => {
  test('give each worker a socket of its own at each address, and close them all', () => {
    const at = { address: '127.0.0.1', port: freePort() };
    const sockets = new ListeningSockets();
    const opened = openSockets(at, 3, sockets);
    opened.choose();
    const each = [0, 1, 2].map((worker) => opened.of(worker));
    expect(new Set(each.flatMap(({ descriptors }) => descriptors)).size).toBe(3);
    for (const { names, descriptors } of each) {
      expect(names).toEqual([`tcp 127.0.0.1 ${at.port}`]);
      expect(findTcpListener(descriptors[0] ?? -1)).toEqual(at);
    }
    expect(sockets.list()).toHaveLength(3);
    expect(() => opened.of(3)).toThrow(RangeError);
    opened.close();
    expect(sockets.list()).toEqual([]);
    requireFree([at]);
  });

  test('that were closed are not opened again, nor chosen among', () => {
    const at = { address: '127.0.0.1', port: freePort() };
    const sockets = new ListeningSockets();
    const before = openSockets(at, 2, sockets);
    const next = handOn(sockets);
    before.close();
    before.openAll();
    before.choose();
    expect(sockets.list()).toEqual([]);
    const after = openSockets(at, 2, next);
    after.choose();
    after.close();
  });

  test('of an earlier agent with more workers are divided among fewer: none is closed', () => {
    const at = { address: '127.0.0.1', port: freePort() };
    const sockets = new ListeningSockets();
    const before = openSockets(at, 3, sockets);
    const [first = -1, second = -1, third = -1] = listenersOf(before, 3).flat();
    const after = openSockets(at, 2, handOn(sockets));
    expect(listenersOf(after, 2)).toEqual([[first, third], [second]]);
    after.close();
  });

  test('of an earlier agent with fewer workers: the others join when they are told to, and not before', () => {
    const at = { address: '127.0.0.1', port: freePort() };
    const sockets = new ListeningSockets();
    const [first = -1, second = -1] = listenersOf(openSockets(at, 2, sockets), 2).flat();
    const after = openSockets(at, 3, handOn(sockets));
    expect([0, 1, 2].map((worker) => after.isOpen(worker))).toEqual([true, true, false]);
    expect(() => after.of(2)).toThrow(RangeError);
    expect(listenersOf(after, 2)).toEqual([[first], [second]]);
    after.openAll();
    expect(findTcpListener(after.of(2).descriptors[0] ?? -1)).toEqual(at);
    after.close();
  });

  test('are chosen among by one agent at a time: the next one may as soon as the other lets go', () => {
    const at = { address: '127.0.0.1', port: freePort() };
    const sockets = new ListeningSockets();
    const before = openSockets(at, 2, sockets);
    before.choose();
    const after = openSockets(at, 2, handOn(sockets));
    expect(reasonOf(() => after.choose())).toBe('bpf');
    before.release();
    after.choose();
    after.close();
  });
});

describe('requireFree()', () => {
  test('refuses an address at which somebody listens, also one who would share it', () => {
    const fd = openTcpListener({ address: '127.0.0.1', port: 0 }, { sharesPort: true });
    stops.push(() => libc().close(fd));
    const port = findTcpListener(fd)?.port ?? 0;
    expect(reasonOf(() => requireFree([{ address: '127.0.0.1', port }]))).toBe('listen_failed');
  });
});

describe('GivenSockets', () => {
  test('knows its descriptors by their names, and opens nothing else', async () => {
    const given = new GivenSockets(['tcp :: 15001', 'tcp :: 15008']);
    expect(given.tcp({ address: '::', port: 15_008 })).toMatchObject([{ fd: 4, port: 15_008 }]);
    const several = new GivenSockets(['tcp :: 1', 'tcp :: 2', 'tcp :: 1']);
    expect(several.tcp({ address: '::', port: 1 }).map(({ fd }) => fd)).toEqual([3, 5]);
    expect(reasonOf(() => given.tcp({ address: '::', port: 15_006 }))).toBe('listen_failed');
    expect(await refusalOf(given.unix('/run/x.sock'))).toMatchObject({ reason: 'listen_failed' });
  });
});
