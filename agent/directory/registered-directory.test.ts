import { describe, expect, test } from 'bun:test';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
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

function directoryOf(records: readonly DirectoryRecord[], entries: readonly Entry[] = []) {
  const watchedRecords = new WatchedValue<ReadonlyMap<string, DirectoryRecord>>(
    new Map(records.map((each, i) => [String(i), each])),
  );
  const watchedEntries = new WatchedValue<ReadonlyMap<string, Entry>>(
    new Map(entries.map((each) => [each.entryId, each])),
  );
  const directory = new RegisteredDirectory({
    records: watchedRecords,
    entries: watchedEntries,
    isOwnAddress: (address) => address === '10.0.0.1' || address === 'fd00::1',
    log: silentLog,
  });
  return { directory, watchedRecords, watchedEntries };
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
    expect(directory.findLocalListener(90)).toBeUndefined();
    expect(directory.find({ address: '127.0.0.1', port: 90 })).toEqual({ kind: 'unregistered' });
    expect(directory.localPorts()).toEqual([90]);
  });

  test('takes several entries of one identity at a port for one listener', () => {
    const { directory } = directoryOf(
      [],
      [entry('/a', [{ port: 90, protocol: 'auto' }]), entry('/a', [{ port: 90, protocol: 'auto' }])],
    );
    expect(directory.findLocalListener(90)?.spiffeId).toBe(parseSpiffeId('spiffe://example.org/a'));
  });

  test('follows changes and tells who watches', () => {
    const { directory, watchedRecords, watchedEntries } = directoryOf([]);
    let changes = 0;
    const unwatch = directory.watch(() => (changes += 1));
    watchedRecords.set(new Map([['k', record('10.0.0.2', 80, '/web')]]));
    const added = entry('/own', [{ port: 5432, protocol: 'tcp' }]);
    watchedEntries.set(new Map([[added.entryId, added]]));
    expect(changes).toBe(2);
    expect(directory.find({ address: '10.0.0.2', port: 80 }).kind).toBe('remote');
    expect(directory.localPorts()).toEqual([5432]);
    unwatch();
    directory.stop();
    watchedRecords.set(new Map());
    expect(changes).toBe(2);
  });
});
