import { describe, expect, test } from 'bun:test';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { PlaceRecord, ServiceRecord } from '../../shared/protocol/service.ts';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import { Namespaces } from '../namespaces/namespaces.ts';
import { createTestNetwork } from '../../tests/kit/netns.ts';
import { hasHboneClash, HbonePeers, type HbonePeer } from './hbone-peers.ts';
import { RegisteredDirectory } from './registered-directory.ts';

const AGENT = parseSpiffeId('spiffe://example.org/picket/agent/tpm/a');

function record(address: string, port: number, path: string, network = 'default'): DirectoryRecord {
  return { network, address, port, spiffeId: parseSpiffeId(`spiffe://example.org${path}`), protocol: 'auto' };
}

function entry(path: string, listeners: Entry['listeners']): Entry {
  return {
    entryId: crypto.randomUUID(),
    spiffeId: parseSpiffeId(`spiffe://example.org${path}`),
    parentId: AGENT,
    selectors: [parseSelector('unix:uid:1')],
    ttlSeconds: 3600,
    federatesWith: [],
    dnsNames: [],
    hint: '',
    listeners,
    revision: 0,
    createdAt: '2026-11-24T00:00:00.000Z',
  };
}

function service(name: string, path: string, address: string, port = 80): ServiceRecord {
  return {
    name,
    spiffeId: parseSpiffeId(`spiffe://example.org${path}`),
    port: 80,
    addresses: [{ address, port }],
  };
}

interface Told {
  readonly peers?: readonly HbonePeer[];
  readonly services?: readonly ServiceRecord[];
  readonly namespaces?: Namespaces;
}

function directoryOf(
  records: readonly DirectoryRecord[],
  entries: readonly Entry[] = [],
  { peers = [], services = [], namespaces }: Told = {},
) {
  const watchedServices = new WatchedValue<ReadonlyMap<string, ServiceRecord>>(
    new Map(services.map((each) => [each.name, each])),
  );
  const watchedPlaces = new WatchedValue<ReadonlyMap<string, PlaceRecord>>(new Map());
  const watchedRecords = new WatchedValue<ReadonlyMap<string, DirectoryRecord>>(
    new Map(records.map((each, i) => [String(i), each])),
  );
  const watchedEntries = new WatchedValue<ReadonlyMap<string, Entry>>(
    new Map(entries.map((each) => [each.entryId, each])),
  );
  const directory = new RegisteredDirectory({
    records: watchedRecords,
    entries: watchedEntries,
    hbonePeers: new HbonePeers(peers),
    services: watchedServices,
    places: watchedPlaces,
    ownNode: () => AGENT,
    isOwnAddress: (address) => address === '10.0.0.1' || address === 'fd00::1',
    ...(namespaces === undefined ? {} : { namespaces }),
    log: silentLog,
  });
  return { directory, watchedRecords, watchedEntries, watchedServices, watchedPlaces };
}

describe('RegisteredDirectory.find()', () => {
  test('knows who is registered on other hosts, by IPv4 in any spelling and by IPv6', () => {
    const { directory } = directoryOf([record('10.0.0.2', 80, '/web'), record('fd00::2', 80, '/six')]);
    expect(directory.find({ address: '10.0.0.2', port: 80 })).toMatchObject({
      kind: 'remote',
      spiffeId: 'spiffe://example.org/web',
    });
    expect(directory.find({ address: '::ffff:10.0.0.2', port: 80 }).kind).toBe('remote');
    expect(directory.find({ address: 'fd00:0::2', port: 80 })).toMatchObject({
      kind: 'remote',
      spiffeId: 'spiffe://example.org/six',
    });
  });

  test('an address that is once in the mesh is never outside of it', () => {
    const { directory } = directoryOf([record('10.0.0.2', 80, '/web')]);
    expect(directory.find({ address: '10.0.0.2', port: 81 })).toEqual({ kind: 'unregistered' });
    expect(directory.find({ address: '10.0.0.3', port: 80 })).toEqual({ kind: 'outside' });
  });

  test('finds listeners of this host by its own addresses and by loopback, whatever the server says of those addresses', () => {
    const { directory } = directoryOf(
      [record('10.0.0.1', 80, '/stranger')],
      [entry('/own', [{ port: 80, protocol: 'http' }])],
    );
    for (const address of ['10.0.0.1', 'fd00::1', '127.0.0.1', '::1', '127.8.8.8'])
      expect(directory.find({ address, port: 80 })).toEqual({
        kind: 'local',
        spiffeId: parseSpiffeId('spiffe://example.org/own'),
        protocol: 'http',
      });
    expect(directory.find({ address: '10.0.0.1', port: 81 })).toEqual({ kind: 'unregistered' });
  });

  test('answers nobody where two records or two entries contradict each other', () => {
    const { directory } = directoryOf(
      [record('10.0.0.2', 80, '/web'), record('10.0.0.2', 80, '/other', 'second')],
      [entry('/a', [{ port: 90, protocol: 'auto' }]), entry('/b', [{ port: 90, protocol: 'auto' }])],
    );
    expect(directory.find({ address: '10.0.0.2', port: 80 })).toEqual({ kind: 'unregistered' });
    expect(directory.find({ address: '127.0.0.1', port: 90 })).toEqual({ kind: 'unregistered' });
    expect(directory.localPorts()).toEqual([90]);
  });

  test('tells which listener of this host expects the PROXY protocol, and takes two that differ in that for nobody', () => {
    const asking = { port: 80, protocol: 'auto', proxyProtocol: 'v2' } as const;
    const own = { address: '10.0.0.1', port: 80 };
    expect(directoryOf([], [entry('/a', [asking])]).directory.find(own)).toMatchObject({
      proxyProtocol: 'v2',
    });
    const { directory } = directoryOf(
      [],
      [entry('/a', [asking]), entry('/a', [{ port: 80, protocol: 'auto' }])],
    );
    expect(directory.find(own)).toEqual({ kind: 'unregistered' });
  });

  test('tells which listener of this host is connected from the caller’s address, and takes two that differ in that for nobody', () => {
    const asking = { port: 80, protocol: 'auto', transparent: true } as const;
    const own = { address: '10.0.0.1', port: 80 };
    const one = directoryOf([], [entry('/a', [asking, { port: 81, protocol: 'auto' }])]).directory;
    expect([one.find(own), one.transparentPorts(), one.localPorts()]).toMatchObject([
      { transparent: true },
      [80],
      [80, 81],
    ]);
    const two = directoryOf([], [entry('/a', [asking]), entry('/a', [{ port: 80, protocol: 'auto' }])]);
    expect([two.directory.find(own), two.directory.transparentPorts()]).toEqual([
      { kind: 'unregistered' },
      [],
    ]);
  });

  test('has no program at the port of a gateway that would be connected from the caller’s address', () => {
    const gateway = { port: 15_008, protocol: 'egress', transparent: true } as const;
    const { directory } = directoryOf([], [entry('/gateway', [gateway])]);
    expect(directory.transparentPorts()).toEqual([]);
  });

  test('leads the addresses of a service to whoever is registered, and nothing else there out of the mesh', () => {
    const { directory } = directoryOf(
      [record('10.0.0.2', 80, '/web'), record('10.0.0.3', 80, '/web'), record('10.0.0.4', 80, '/other')],
      [],
      { services: [service('web', '/web', '10.96.0.1', 8000)] },
    );
    const found = directory.find({ address: '::ffff:10.96.0.1', port: 8000 });
    expect(found).toMatchObject({ kind: 'service', name: 'web', spiffeId: 'spiffe://example.org/web' });
    expect(found.kind === 'service' && found.members.map(({ address }) => address)).toEqual([
      '10.0.0.2',
      '10.0.0.3',
    ]);
    expect(directory.find({ address: '10.96.0.1', port: 8001 })).toEqual({ kind: 'unregistered' });
    expect(directory.find({ address: '10.0.0.2', port: 80 }).kind).toBe('remote');
    expect(directory.services()).toHaveLength(1);
  });

  test('an address that leads to two services, or is a host’s own, leads to nobody', () => {
    const { directory } = directoryOf(
      [record('10.0.0.2', 80, '/web')],
      [entry('/own', [{ port: 80, protocol: 'http' }])],
      {
        services: [
          service('a', '/web', '10.96.0.1'),
          service('b', '/other', '10.96.0.1'),
          service('c', '/other', '10.0.0.2', 8000),
          service('d', '/other', '10.0.0.1'),
        ],
      },
    );
    expect(directory.find({ address: '10.96.0.1', port: 80 })).toEqual({ kind: 'unregistered' });
    expect(directory.find({ address: '10.0.0.2', port: 8000 })).toEqual({ kind: 'unregistered' });
    // What goes to this very host stays here, whatever the server says.
    expect(directory.find({ address: '10.0.0.1', port: 80 })).toMatchObject({ kind: 'local' });
  });

  test('takes several entries of one identity at a port for one listener', () => {
    const { directory } = directoryOf(
      [],
      [entry('/a', [{ port: 90, protocol: 'auto' }]), entry('/a', [{ port: 90, protocol: 'auto' }])],
    );
    expect(directory.find({ address: '127.0.0.1', port: 90 })).toMatchObject({
      kind: 'local',
      spiffeId: 'spiffe://example.org/a',
    });
  });

  test('follows changes and tells who watches', () => {
    const { directory, watchedRecords, watchedEntries, watchedServices, watchedPlaces } = directoryOf([]);
    let changes = 0;
    const unwatch = directory.watch(() => (changes += 1));
    watchedRecords.set(new Map([['k', record('10.0.0.2', 80, '/web')]]));
    const added = entry('/own', [{ port: 5432, protocol: 'tcp' }]);
    watchedEntries.set(new Map([[added.entryId, added]]));
    expect(changes).toBe(2);
    watchedServices.set(new Map([['web', service('web', '/web', '10.96.0.1')]]));
    watchedPlaces.set(new Map());
    expect(changes).toBe(4);
    changes = 2;
    expect(directory.find({ address: '10.0.0.2', port: 80 }).kind).toBe('remote');
    expect(directory.localPorts()).toEqual([5432]);
    unwatch();
    directory.stop();
    watchedRecords.set(new Map());
    expect(changes).toBe(2);
  });
});

describe('RegisteredDirectory.find() beyond the mesh', () => {
  const CART = parseSpiffeId('spiffe://istio.test/ns/shop/sa/cart');
  const DATA = parseSpiffeId('spiffe://istio.test/ns/shop/sa/data');

  test('knows the workloads of other meshes that the configuration names', () => {
    const { directory } = directoryOf([], [], {
      peers: [
        { addresses: ['10.1.0.7', 'fd00:0::7'], ports: [8080], spiffeId: CART },
        { addresses: ['10.1.0.8'], spiffeId: DATA },
      ],
    });
    const cart = { kind: 'remote', spiffeId: CART, protocol: 'auto', transport: 'hbone' } as const;
    expect(directory.find({ address: '10.1.0.7', port: 8080 })).toEqual(cart);
    expect(directory.find({ address: '::ffff:10.1.0.7', port: 8080 })).toEqual(cart);
    expect(directory.find({ address: 'fd00::7', port: 8080 })).toEqual(cart);
    expect(directory.find({ address: '10.1.0.8', port: 1 })).toMatchObject({ spiffeId: DATA });
    // Never plaintext where a peer is.
    expect(directory.find({ address: '10.1.0.7', port: 8081 })).toEqual({ kind: 'unregistered' });
    expect(directory.find({ address: '10.1.0.9', port: 8080 })).toEqual({ kind: 'outside' });
  });

  test('lets no peer stand at an address of the mesh, or of this host', () => {
    const { directory } = directoryOf([record('10.0.0.2', 80, '/web')], [], {
      peers: [{ addresses: ['10.0.0.1', '10.0.0.2', '127.0.0.1'], spiffeId: CART }],
    });
    expect(directory.find({ address: '10.0.0.2', port: 80 })).toMatchObject({
      spiffeId: 'spiffe://example.org/web',
    });
    for (const address of ['10.0.0.1', '10.0.0.2', '127.0.0.1'])
      expect(directory.find({ address, port: 81 })).toEqual({ kind: 'unregistered' });
  });
});

describe('hasHboneClash()', () => {
  const of = (addresses: readonly string[], ports?: readonly number[]) => ({ addresses, ports });

  test('sees two identities for one address and port, in any spelling', () => {
    expect(hasHboneClash([of(['10.0.0.1'], [1, 2]), of(['::ffff:10.0.0.1'], [2])])).toBe(true);
    expect(hasHboneClash([of(['10.0.0.1'], [1]), of(['10.0.0.1'])])).toBe(true);
    expect(hasHboneClash([of(['10.0.0.1']), of(['10.0.0.1'], [1])])).toBe(true);
    expect(hasHboneClash([of(['10.0.0.1']), of(['10.0.0.1'])])).toBe(true);
  });

  test('lets one peer name an address or port twice, and peers share an address', () => {
    expect(hasHboneClash([of(['10.0.0.1', '10.0.0.1'], [1, 1])])).toBe(false);
    expect(hasHboneClash([of(['10.0.0.1'], [1]), of(['10.0.0.1'], [2]), of(['10.0.0.2'])])).toBe(false);
  });
});

describe('RegisteredDirectory and gateways out of the mesh', () => {
  const GATEWAY = parseSpiffeId('spiffe://example.org/gateway');
  const egress = (address: string, path = '/gateway'): DirectoryRecord => ({
    ...record(address, 15_008, path),
    protocol: 'egress',
  });

  test('tells where a gateway answers, but for this host, and nobody who is registered for something else', () => {
    const { directory } = directoryOf([
      egress('10.0.0.2'),
      egress('fd00::2'),
      egress('10.0.0.3', '/other'),
      record('10.0.0.4', 15_008, '/gateway'),
    ]);
    expect(directory.findGateways(GATEWAY)).toEqual([
      { address: '10.0.0.2', port: 15_008 },
      { address: 'fd00::2', port: 15_008 },
    ]);
    expect(directory.findGateways(parseSpiffeId('spiffe://example.org/nobody'))).toEqual([]);
  });

  test('withholds a gateway that stands there twice in different ways', () => {
    const { directory } = directoryOf([egress('10.0.0.2'), record('10.0.0.2', 15_008, '/web')]);
    expect(directory.findGateways(GATEWAY)).toEqual([]);
  });

  test('leads no program to a gateway’s port', () => {
    const { directory } = directoryOf(
      [egress('10.0.0.2')],
      [entry('/gateway', [{ port: 15_008, protocol: 'egress' }])],
    );
    expect(directory.find({ address: '10.0.0.2', port: 15_008 })).toEqual({ kind: 'unregistered' });
    expect(directory.find({ address: '127.0.0.1', port: 15_008 })).toEqual({ kind: 'unregistered' });
    expect(directory.localPorts()).toEqual([]);
  });

  test('knows whether this host is one, by the identity and the port', () => {
    const { directory } = directoryOf([], [entry('/gateway', [{ port: 15_008, protocol: 'egress' }])]);
    expect(directory.isGateway(GATEWAY, 15_008)).toBe(true);
    expect(directory.isGateway(GATEWAY, 15_009)).toBe(false);
    expect(directory.isGateway(AGENT, 15_008)).toBe(false);
    const plain = directoryOf([], [entry('/gateway', [{ port: 15_008, protocol: 'tcp' }])]);
    expect(plain.directory.isGateway(GATEWAY, 15_008)).toBe(false);
  });
});

describe('RegisteredDirectory with a namespace of the host', () => {
  const POD = '10.8.0.2';
  const listening = (path: string, address?: string): Entry =>
    entry(path, [{ port: 80, protocol: 'auto', ...(address === undefined ? {} : { address }) }]);

  test('gives each address its own listener, and the loopback of each to who lives there', async () => {
    await using stack = new AsyncDisposableStack();
    const network = await createTestNetwork(1);
    stack.defer(async () => await network.remove());
    using namespace = NetworkNamespace.open('pod', `/run/netns/${network.hosts[0]!.name}`);
    const pod = { name: 'pod', label: 'pod', path: '', addresses: [POD, 'fd08::2'], routedIn: [] };
    const namespaces = new Namespaces({ source: { list: () => [pod] } });
    const entries = [
      listening('/pod', POD),
      listening('/host'),
      entry('/only', [{ port: 81, protocol: 'tcp', address: POD }]),
    ];
    const { directory } = directoryOf([], entries, { namespaces });
    let changes = 0;
    directory.watch(() => changes++);
    // While it is not captured it is closed, also for who is registered for all addresses of the host.
    expect(directory.find({ address: POD, port: 80 })).toEqual({ kind: 'unregistered' });
    // Nothing that is open could stand on what was closed.
    namespaces.add(namespace, pod);
    expect(changes).toBe(0);
    expect(directory.find({ address: POD, port: 80 })).toMatchObject({
      spiffeId: 'spiffe://example.org/pod',
      namespace,
    });
    expect(directory.find({ address: 'fd08::2', port: 80 })).toMatchObject({
      spiffeId: 'spiffe://example.org/host',
      namespace,
    });
    expect(directory.find({ address: '127.0.0.1', port: 80 }, { namespace })).toMatchObject({
      spiffeId: 'spiffe://example.org/pod',
      namespace,
    });
    const own = directory.find({ address: '127.0.0.1', port: 80 });
    expect(own).toEqual({
      kind: 'local',
      spiffeId: parseSpiffeId('spiffe://example.org/host'),
      protocol: 'auto',
    });
    expect(directory.find({ address: '10.0.0.1', port: 81 })).toEqual({ kind: 'unregistered' });
    expect([directory.localPorts(), directory.localPorts({ namespace })]).toEqual([[80], [80, 81]]);
    namespaces.remove(namespace);
    expect(directory.find({ address: POD, port: 80 })).toEqual({ kind: 'unregistered' });
  });

  test('answers nobody where two identities are registered for one address, or for two behind one loopback', () => {
    const { directory } = directoryOf(
      [],
      [
        listening('/a', '10.0.0.1'),
        listening('/b', '10.0.0.1'),
        entry('/c', [{ port: 90, protocol: 'auto', address: '10.0.0.1' }]),
        entry('/d', [{ port: 90, protocol: 'auto', address: 'fd00::1' }]),
      ],
    );
    expect(directory.find({ address: '10.0.0.1', port: 80 })).toEqual({ kind: 'unregistered' });
    expect(directory.find({ address: '127.0.0.1', port: 90 })).toEqual({ kind: 'unregistered' });
    expect(directory.find({ address: 'fd00::1', port: 90 })).toMatchObject({
      spiffeId: 'spiffe://example.org/d',
    });
  });
});
