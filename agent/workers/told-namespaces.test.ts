import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { openSync } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';
import { countDescriptorsTo } from '../../tests/kit/count-descriptors.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { createTestNetwork, requireRoot, type TestNetwork } from '../../tests/kit/netns.ts';
import { OwnAddresses } from '../directory/own-addresses.ts';
import { openDescriptorWay, sendDescriptors } from '../native/descriptor-passing.ts';
import { closeDescriptor } from '../native/dial.ts';
import { findTcpListener, openTcpListener } from '../native/listening-socket.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import { ToldNamespaces } from './told-namespaces.ts';
import { keyOf } from './worker-namespaces.ts';
import { GivenSockets } from './worker-sockets.ts';

const ADDRESS = '10.8.0.2';
const AT = { address: '::', port: 15_001 };
const DECLARED = { name: 'one', label: 'one', path: '', addresses: [ADDRESS], routedIn: [] };

let network: TestNetwork;
let agents: NetworkNamespace;
let socket: number;
let way: ReturnType<typeof openDescriptorWay>;
let sockets: GivenSockets;
let told: ToldNamespaces;
/** What could not be served, and why. */
let failures: string[];
/** Whether nothing can be listened on. */
let isFull: boolean;
/** The descriptors on which connections are taken. */
let listening: Set<number>;

beforeAll(async () => {
  requireRoot('network namespaces');
  network = await createTestNetwork(1);
});
afterAll(async () => await network.remove());
beforeEach(() => {
  const [host] = network.hosts;
  agents = NetworkNamespace.open(DECLARED.name, `/run/netns/${host?.name}`);
  socket = openTcpListener(AT, { namespace: agents });
  way = openDescriptorWay();
  sockets = new GivenSockets([]);
  listening = new Set();
  failures = [];
  isFull = false;
  told = new ToldNamespaces({
    settings: { named: [DECLARED], patterns: [] },
    way: way.far,
    sockets,
    addresses: new OwnAddresses(new FakeClock()),
    onFailed: (cookie, { reason }) => void failures.push(`${cookie} ${reason}`),
  });
});
afterEach(() => {
  told.remove(keyOf(agents));
  agents[Symbol.dispose]();
  for (const fd of [socket, way.near, way.far]) closeDescriptor(fd);
});

/** As the data path does with the socket that the worker was given. */
const proxy = {
  listenIn: (namespace: NetworkNamespace) => {
    if (isFull) throw new PicketError('unavailable', 'listen_failed', 'there is no room');
    const [given] = sockets.tcp(AT, { namespace });
    const fd = given?.fd ?? -1;
    listening.add(fd);
    return {
      isBroken: false,
      stop: () => {
        listening.delete(fd);
        closeDescriptor(fd);
      },
    };
  },
};

function give(): string {
  sendDescriptors(way.near, [agents.fd, socket]);
  const cookie = keyOf(agents);
  told.add({ kind: 'namespace', cookie, declared: DECLARED });
  return cookie;
}

describe('ToldNamespaces', () => {
  test('knows who lives where before it takes connections, and takes them in all at once', () => {
    expect(told.namespaces.findAt(ADDRESS)).toEqual({ kind: 'closed' });
    give();
    expect(told.namespaces.findAt(ADDRESS)?.kind).toBe('captured');
    expect(listening.size).toBe(0);
    told.listen(proxy);
    expect(Array.from(listening, findTcpListener)).toEqual([AT]);
  });

  test('takes connections in what comes later, until it goes', () => {
    told.listen(proxy);
    const cookie = give();
    const [fd = -1] = listening;
    expect(findTcpListener(fd)).toEqual(AT);
    told.remove(cookie);
    expect([listening.size, findTcpListener(fd)]).toEqual([0, undefined]);
    expect(told.namespaces.findAt(ADDRESS)).toEqual({ kind: 'closed' });
  });

  test.each(['before', 'after'])(
    'closes what it cannot listen in, tells it, and serves it when it is given again, as others: %s connections are taken',
    (when) => {
      isFull = true;
      if (when === 'after') told.listen(proxy);
      const cookie = give();
      if (when === 'before') told.listen(proxy);
      expect(failures).toEqual([`${cookie} listen_failed`]);
      expect([told.namespaces.findAt(ADDRESS), listening.size]).toEqual([{ kind: 'closed' }, 0]);
      closeDescriptor(socket);
      // Nobody has the port any more.
      socket = openTcpListener(AT, { namespace: agents });
      isFull = false;
      give();
      expect([told.namespaces.findAt(ADDRESS)?.kind, listening.size]).toEqual(['captured', 1]);
      expect(failures).toHaveLength(1);
    },
  );

  test.each(['before', 'after'])(
    'goes on with what it serves where that is given again, %s connections are taken, and keeps nothing else open',
    (when) => {
      if (when === 'after') told.listen(proxy);
      const countHeld = (): number => countDescriptorsTo(agents.fd, socket);
      const before = countHeld();
      const cookie = give();
      const held = countHeld();
      give();
      expect(countHeld()).toBe(held);
      if (when === 'before') told.listen(proxy);
      expect([told.namespaces.findAt(ADDRESS)?.kind, listening.size]).toEqual(['captured', 1]);
      told.remove(cookie);
      expect([countHeld(), listening.size]).toEqual([before, 0]);
      expect(failures).toEqual([]);
    },
  );

  test('takes none for what it is not, and goes on with the next', () => {
    told.listen(proxy);
    const file = openSync('/dev/null', 'r');
    sendDescriptors(way.near, [file, socket]);
    const cookie = keyOf(agents);
    told.add({ kind: 'namespace', cookie, declared: DECLARED });
    expect(failures).toEqual([`${cookie} network_namespace`]);
    give();
    expect(listening.size).toBe(1);
    closeDescriptor(file);
  });

  test('goes on with nothing once what is said and what is given are not in step', () => {
    told.listen(proxy);
    const cookie = keyOf(agents);
    expect(() => told.add({ kind: 'namespace', cookie, declared: DECLARED })).toThrow(
      /Cannot pass descriptors/,
    );
    sendDescriptors(way.near, [agents.fd, socket]);
    expect(() => told.add({ kind: 'namespace', cookie: '1', declared: DECLARED })).toThrow(
      /another namespace than 1/,
    );
    expect([failures, listening.size]).toEqual([[], 0]);
  });

  test('keeps nothing open of what goes before connections are taken', () => {
    told.remove(give());
    closeDescriptor(socket);
    // Nobody has the port any more.
    socket = openTcpListener(AT, { namespace: agents });
    told.listen(proxy);
    expect(listening.size).toBe(0);
  });
});
