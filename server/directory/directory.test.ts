import { describe, expect, test } from 'bun:test';
import { testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { deriveDirectory, directoryKey, type Placement } from './directory.ts';

const placement = (entryId: string, change: Partial<Placement> = {}): Placement => ({
  entryId,
  spiffeId: testWorkloadId('/web'),
  listeners: [{ port: 80, protocol: 'http' }],
  network: 'default',
  address: '192.0.2.1',
  ...change,
});

describe('deriveDirectory()', () => {
  test('makes a record of each listener at each address', () => {
    const listeners = [
      { port: 80, protocol: 'http' as const },
      { port: 81, protocol: 'tcp' as const },
    ];
    const view = deriveDirectory([
      placement('a', { listeners }),
      placement('a', { listeners, address: '2001:db8::1', network: 'other' }),
    ]);
    expect(view.conflicts).toEqual([]);
    expect(view.records.map(directoryKey)).toEqual([
      'default|192.0.2.1|80|spiffe://example.org/web',
      'default|192.0.2.1|81|spiffe://example.org/web',
      'other|2001:db8::1|80|spiffe://example.org/web',
      'other|2001:db8::1|81|spiffe://example.org/web',
    ]);
  });

  test('makes one record of entries that agree', () => {
    expect(deriveDirectory([placement('a'), placement('b')]).records).toHaveLength(1);
  });

  test('withholds an address and port with two identities, and reports it', () => {
    const other = placement('b', {
      spiffeId: testWorkloadId('/db'),
      listeners: [
        { port: 80, protocol: 'http' },
        { port: 5432, protocol: 'tcp' },
      ],
    });
    const view = deriveDirectory([placement('a'), other, placement('c')]);
    expect(view.records.map((record) => record.port)).toEqual([5432]);
    expect(view.conflicts).toEqual([
      {
        network: 'default',
        address: '192.0.2.1',
        port: 80,
        spiffeIds: [testWorkloadId('/web'), testWorkloadId('/db')],
        entryIds: ['a', 'b', 'c'],
      },
    ]);
  });

  test('withholds an identity with two protocols at one port', () => {
    const view = deriveDirectory([
      placement('a'),
      placement('b', { listeners: [{ port: 80, protocol: 'tcp' }] }),
    ]);
    expect(view.records).toEqual([]);
    expect(view.conflicts).toHaveLength(1);
  });

  test('the same address in two networks is no conflict', () => {
    const view = deriveDirectory([
      placement('a'),
      placement('b', { network: 'other', spiffeId: testWorkloadId('/db') }),
    ]);
    expect(view.records).toHaveLength(2);
    expect(view.conflicts).toEqual([]);
  });

  test('keeps a listener for one address there, where it goes before those for all', () => {
    const pod = placement('pod', {
      spiffeId: parseSpiffeId('spiffe://example.org/pod'),
      listeners: [{ port: 80, protocol: 'http', address: '192.0.2.2' }],
    });
    const at = (address: string): readonly Placement[] => [placement('a', { address }), { ...pod, address }];
    const view = deriveDirectory([...at('192.0.2.1'), ...at('192.0.2.2')]);
    expect(view.conflicts).toEqual([]);
    expect(view.records.map(directoryKey)).toEqual([
      'default|192.0.2.1|80|spiffe://example.org/web',
      'default|192.0.2.2|80|spiffe://example.org/pod',
    ]);
    const rival = { ...pod, spiffeId: parseSpiffeId('spiffe://example.org/rival'), address: '192.0.2.2' };
    const contested = deriveDirectory([...at('192.0.2.2'), rival]);
    expect([contested.records, contested.conflicts.length]).toEqual([[], 1]);
  });
});
