import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { createTestNetwork, endListener, requireRoot, type TestNetwork } from '../../tests/kit/netns.ts';
import { ListeningSockets } from '../handover/listening-sockets.ts';
import type { DeclaredNamespace } from '../namespaces/namespace-source.ts';
import { Namespaces } from '../namespaces/namespaces.ts';
import { closeDescriptor } from '../native/dial.ts';
import { findTcpListener } from '../native/listening-socket.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import type { ToWorker } from './worker-messages.ts';
import { WorkerNamespaces, type NamespaceTaker } from './worker-namespaces.ts';

const ADDRESS = '10.8.0.2';
const PORT = 15_001;
const DECLARED: DeclaredNamespace = {
  name: 'pods/one',
  label: 'pods',
  path: '',
  addresses: [],
  routedIn: [{ family: 'ip', address: '10.8.0.0', prefixBits: 24 }],
};

let network: TestNetwork;
let namespace: NetworkNamespace;
let namespaces: Namespaces;
let all: WorkerNamespaces;
let clock: FakeClock;
let lines: string[];

beforeAll(async () => {
  requireRoot('network namespaces');
  network = await createTestNetwork(1);
});
afterAll(async () => await network.remove());
beforeEach(() => {
  namespace = NetworkNamespace.open(DECLARED.name, `/run/netns/${network.hosts[0]!.name}`);
  namespaces = new Namespaces({
    source: { list: () => [DECLARED] },
    routedIn: DECLARED.routedIn,
    findRouted: () => new Map([[ADDRESS, namespace]]),
  });
  const sockets = new ListeningSockets();
  [clock, lines] = [new FakeClock(), []];
  const log = createLog({ level: 'error', nowMs: () => 0, write: (line) => void lines.push(line) });
  all = new WorkerNamespaces({ namespaces, sockets, port: PORT, mark: 1, clock, log });
});
afterEach(() => {
  all.stop();
  namespace[Symbol.dispose]();
});

/** A worker that writes down what it is told, and is not given what it is not there for. */
class Noting implements NamespaceTaker {
  readonly told: string[] = [];
  readonly given: (readonly number[])[] = [];
  readonly takenBack: string[] = [];
  isBusy = false;

  tell(message: ToWorker): void {
    this.told.push(message.kind === 'routes' ? `routes to ${message.routed.length}` : message.kind);
  }

  give(message: ToWorker, { descriptors }: Parameters<NamespaceTaker['give']>[1]): void {
    if (this.isBusy) return;
    this.tell(message);
    this.given.push(descriptors);
  }

  takeBack(key: string): boolean {
    if (this.isBusy) this.takenBack.push(key);
    return this.isBusy;
  }
}

describe('WorkerNamespaces', () => {
  test('gives all workers one socket, that nobody can join, and those that come later as well', () => {
    const [early, late, gone] = [new Noting(), new Noting(), new Noting()];
    all.join(early);
    all.join(gone);
    all.leave(gone);
    const listener = all.listenIn(namespace);
    namespaces.add(namespace, DECLARED);
    all.join(late);
    expect(early.told).toEqual(['routes to 0', 'namespace', 'routes to 1']);
    expect(late.told).toEqual(['namespace', 'routes to 1']);
    expect(gone.told).toEqual(['routes to 0']);
    expect(early.given).toEqual(late.given);
    const [within, socket] = early.given[0] ?? [];
    expect(within).toBe(namespace.fd);
    expect(findTcpListener(socket ?? -1)).toEqual({ address: '::', port: PORT });
    expect(() => new ListeningSockets().tcp({ address: '::', port: PORT }, { namespace })).toThrow(
      /EADDRINUSE/,
    );
    listener.stop();
    expect([early, late].map(({ told }) => told.at(-1))).toEqual(['namespace_gone', 'namespace_gone']);
    expect(findTcpListener(socket ?? -1)).toBeUndefined();
  });

  test('says that root within has ended the socket, of which nobody hears otherwise', async () => {
    const listener = all.listenIn(namespace);
    expect(listener.isBroken).toBe(false);
    await endListener(network.hosts[0]!, PORT);
    expect(listener.isBroken).toBe(true);
    listener.stop();
    expect(listener.isBroken).toBe(false);
  });

  test('tells no worker of the end of what it never got, and no later one of what is gone', () => {
    const [busy, late] = [new Noting(), new Noting()];
    busy.isBusy = true;
    all.join(busy);
    all.listenIn(namespace).stop();
    all.join(late);
    expect([busy.told, late.told]).toEqual([['routes to 0'], ['routes to 0']]);
  });

  test('leaves the sockets to another process, and gives no worker what it has not got', () => {
    const [worker, busy] = [new Noting(), new Noting()];
    busy.isBusy = true;
    for (const each of [worker, busy]) all.join(each);
    const listener = all.listenIn(namespace);
    const [, socket = -1] = worker.given[0] ?? [];
    all.drain();
    expect(findTcpListener(socket)).toBeUndefined();
    expect(busy.takenBack).toEqual([String(namespace.cookie)]);
    // What was carried there is over when the namespace is.
    expect(worker.told).toEqual(['routes to 0', 'namespace']);
    listener.stop();
    expect(worker.told.at(-1)).toBe('namespace_gone');
  });

  test('gives a worker again what it could not serve, and no other, and tells of it once', () => {
    const [full, other] = [new Noting(), new Noting()];
    for (const each of [full, other]) all.join(each);
    const listener = all.listenIn(namespace);
    const failure = { worker: 1, cookie: String(namespace.cookie), why: 'there is no room' };
    for (let times = 1; times < 4; times++) {
      all.failed(full, failure);
      clock.advance(1999);
      expect(full.given).toHaveLength(times);
      clock.advance(1);
      expect(full.given).toHaveLength(times + 1);
    }
    expect(new Set(full.given.map((each) => each.join())).size).toBe(1);
    expect(other.given).toHaveLength(1);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(
      '"worker_namespace_failed","worker":1,"name":"pods/one","why":"there is no room"',
    );
    listener.stop();
  });

  test('gives it again once, however often a worker says that it cannot serve it, and tells of few of its reasons', () => {
    const worker = new Noting();
    all.join(worker);
    const listener = all.listenIn(namespace);
    for (let round = 0; round < 20; round++) {
      for (let times = 0; times < 50; times++)
        all.failed(worker, { worker: 1, cookie: String(namespace.cookie), why: `reason ${round} ${times}` });
      expect(clock.pending).toBe(1);
      clock.advance(2000);
      expect(worker.given).toHaveLength(round + 2);
    }
    expect(lines).toHaveLength(16);
    listener.stop();
  });

  test.each([
    ['it is gone', (_: NamespaceTaker, stop: () => void) => stop()],
    ['the worker has ended', (worker: NamespaceTaker) => all.leave(worker)],
    ['another process takes the connections', () => all.drain()],
  ])('gives nobody again what it could not serve once %s', (_, happens) => {
    const worker = new Noting();
    all.join(worker);
    const listener = all.listenIn(namespace);
    const failure = { worker: 1, cookie: String(namespace.cookie), why: 'there is no room' };
    all.failed(worker, failure);
    happens(worker, () => listener.stop());
    clock.advance(2000);
    all.failed(worker, failure);
    clock.advance(2000);
    expect(worker.given).toHaveLength(1);
    all.drain();
  });

  test('refuses what is not declared, and what somebody else listens at', () => {
    using other = NetworkNamespace.open('other', `/run/netns/${network.hosts[0]!.name}`);
    expect(() => all.listenIn(other)).toThrow(RangeError);
    const [taken] = new ListeningSockets().tcp({ address: '::', port: PORT }, { namespace });
    expect(() => all.listenIn(namespace)).toThrow(/EADDRINUSE/);
    const worker = new Noting();
    all.join(worker);
    expect(worker.told).toEqual(['routes to 0']);
    closeDescriptor(taken?.fd ?? -1);
  });
});
