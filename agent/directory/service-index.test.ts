import { describe, expect, test } from 'bun:test';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import { parseSpiffeId, type SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { buildServices, distanceBetween, reachableFrom, type FoundService } from './service-index.ts';

const WEB = parseSpiffeId('spiffe://example.org/web');
const OTHER = parseSpiffeId('spiffe://example.org/other');

const nodeId = (name: string): SpiffeId => parseSpiffeId(`spiffe://example.org/picket/agent/tpm/${name}`);
const record = (address: string, spiffeId = WEB, port = 80): DirectoryRecord => ({
  network: 'default',
  address,
  port,
  spiffeId,
  protocol: 'auto',
});
const place = (name: string, locality: string, ...addresses: string[]) =>
  [nodeId(name), { nodeId: nodeId(name), locality, addresses }] as const;

function build(
  records: readonly (DirectoryRecord | null)[],
  places: readonly ReturnType<typeof place>[],
  ownNode: SpiffeId | undefined = nodeId('own'),
): FoundService {
  const [built] = buildServices({
    services: [{ name: 'web', spiffeId: WEB, port: 80, addresses: [{ address: '10.96.0.1', port: 8000 }] }],
    places: new Map(places),
    records,
    ownNode,
    isOwnAddress: (address) => address === '10.0.0.1',
  });
  if (built === undefined) throw new Error('There is a service');
  return built.found;
}

describe('distanceBetween()', () => {
  test.each([
    ['eu/a', 'eu/a', 'zone'],
    ['eu/a', 'eu/b', 'region'],
    ['eu/a', 'eu', 'region'],
    ['eu', 'eu', 'region'],
    ['eu/a', 'us/a', 'elsewhere'],
    ['eu/a', 'eu2/a', 'elsewhere'],
    [undefined, 'eu/a', 'elsewhere'],
    ['eu/a', undefined, 'elsewhere'],
    [undefined, undefined, 'elsewhere'],
  ] as const)('of %p and %p is %p', (own, other, expected) => {
    expect(distanceBetween(own, other)).toBe(expected);
  });
});

describe('buildServices()', () => {
  test('lists whoever has the listener, the nearest first', () => {
    const found = build(
      [record('10.0.0.4'), record('10.0.0.3'), record('10.0.0.9'), record('10.0.0.2'), record('10.0.0.1')],
      [
        place('own', 'eu/a', '10.0.0.1'),
        place('zone', 'eu/a', '10.0.0.2'),
        place('region', 'eu/b', '10.0.0.3'),
        place('far', 'us/a', '10.0.0.4'),
      ],
    );
    expect(found.members.map(({ address, distance }) => [address, distance])).toEqual([
      ['10.0.0.1', 'host'],
      ['10.0.0.2', 'zone'],
      ['10.0.0.3', 'region'],
      ['10.0.0.4', 'elsewhere'],
      ['10.0.0.9', 'elsewhere'],
    ]);
    expect(found.members.map(({ locality }) => locality)).toEqual([
      'eu/a',
      'eu/a',
      'eu/b',
      'us/a',
      undefined,
    ]);
  });

  test('takes nobody of another identity, another port, or of a record that is contradicted', () => {
    expect(build([record('10.0.0.2', OTHER), record('10.0.0.3', WEB, 81), null], []).members).toEqual([]);
  });

  test('knows no distance as long as it is not known where this host is, itself aside', () => {
    const records = [record('10.0.0.2'), record('10.0.0.1')];
    const places = [place('own', 'eu/a'), place('zone', 'eu/a', '10.0.0.2')];
    expect(build(records, places).members.map(({ distance }) => distance)).toEqual(['host', 'zone']);
    const { members } = build(records, places, nodeId('nobody'));
    expect(members.map(({ distance }) => distance)).toEqual(['host', 'elsewhere']);
  });
});

test('reachableFrom() leaves members of the same family, and all where there are none', () => {
  const found = build([record('10.0.0.2'), record('fd00::2'), record('10.0.0.3')], []);
  const reached = (address: string, service = found): readonly string[] =>
    reachableFrom(address, service).members.map((member) => member.address);
  expect(reached('10.96.0.1')).toEqual(['10.0.0.2', '10.0.0.3']);
  expect(reached('fd96::1')).toEqual(['fd00::2']);
  const [four] = found.members;
  if (four === undefined) throw new Error('There is a member');
  expect(reached('fd96::1', { ...found, members: [four] })).toEqual([four.address]);
});
