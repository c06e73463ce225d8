import { describe, expect, test } from 'bun:test';
import { parseEnforcementScope } from '../../shared/policy/enforcement.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { DirectoryRecord, SyncItem } from '../../shared/protocol/sync.ts';
import { syncMessage } from '../../shared/protocol/sync.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { toWireBundle } from '../../shared/spiffe/wire-bundle.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { authorityProfile, makeCertificate } from '../../tests/kit/test-authority.ts';
import {
  applySyncUpdate,
  EMPTY_SYNC_STATE,
  toSnapshot,
  withBundle,
  type SyncState,
  type SyncUpdate,
} from './sync-state.ts';

const TRUST_DOMAIN = parseTrustDomain('example.org');
const root = (await makeCertificate(authorityProfile('example.org'))).der;
const otherRoot = (await makeCertificate(authorityProfile('example.org'))).der;

function bundle(sequence: number, authority = root, trustDomain = 'example.org'): TrustBundle {
  return {
    trustDomain: parseTrustDomain(trustDomain),
    sequence,
    refreshHintSeconds: 300,
    x509Authorities: [authority],
  };
}

function bundleItem(value: TrustBundle): SyncItem {
  return { kind: 'bundle', key: value.trustDomain, value: toWireBundle(value) };
}

function entryItem(number: number, path = '/web'): SyncItem {
  const entryId = `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`;
  const value: Entry = {
    entryId,
    spiffeId: parseSpiffeId(`spiffe://example.org${path}`),
    parentId: parseSpiffeId('spiffe://example.org/picket/agent/tpm/a'),
    selectors: [parseSelector('unix:uid:1')],
    ttlSeconds: 3600,
    federatesWith: [],
    dnsNames: [],
    hint: '',
    listeners: [],
    revision: 1,
    createdAt: '2026-11-24T00:00:00.000Z',
  };
  return { kind: 'entry', key: entryId, value };
}

function directoryItem(address: string, path = '/web', key?: string): SyncItem {
  const value: DirectoryRecord = {
    network: 'default',
    address,
    port: 80,
    spiffeId: parseSpiffeId(`spiffe://example.org${path}`),
    protocol: 'http',
  };
  return { kind: 'directory', key: key ?? `default|${address}|80|${value.spiffeId}`, value };
}

function modeItem(path: string, mode: 'audit' | 'enforce', domain = 'example.org'): SyncItem {
  const scope = `spiffe://${domain}${path}`;
  return { kind: 'enforcement', key: scope, value: { scope, mode } };
}

const POLICY: SyncItem = {
  kind: 'policy',
  key: 'mesh',
  value: { statement: '{}', signature: 'AA==', chain: ['AA=='] },
};

function snapshot(items: readonly SyncItem[], cursor = 5, epoch = 'e1'): SyncUpdate {
  return { kind: 'snapshot', epoch, cursor, items: [bundleItem(bundle(1)), ...items] };
}

function changes(
  list: Extract<SyncUpdate, { kind: 'changes' }>['changes'],
  cursor = 6,
  epoch = 'e1',
): SyncUpdate {
  return { kind: 'changes', epoch, cursor, changes: list };
}

function apply(state: SyncState, ...updates: readonly SyncUpdate[]): SyncState {
  return updates.reduce((before, update) => applySyncUpdate(before, update, TRUST_DOMAIN), state);
}

const FULL = apply(EMPTY_SYNC_STATE, snapshot([entryItem(1), directoryItem('192.0.2.1'), POLICY]));

const HELD: SyncItem = {
  kind: 'quarantine',
  key: 'node spiffe://example.org/picket/agent/tpm/a',
  value: {
    kind: 'node',
    subject: parseSpiffeId('spiffe://example.org/picket/agent/tpm/a'),
    reason: 'because',
    addresses: ['2001:DB8:0::1'],
    serials: ['0a'],
  },
};

describe('applySyncUpdate(), of quarantines,', () => {
  test('takes and gives them up, spells addresses in one way, and keeps them over a restart', () => {
    const state = apply(FULL, changes([{ op: 'put', item: HELD }]));
    expect(state.quarantines.get(HELD.key)?.addresses).toEqual(['2001:db8::1']);
    expect(state.entries).toBe(FULL.entries);
    expect(apply(EMPTY_SYNC_STATE, toSnapshot(state)).quarantines).toEqual(state.quarantines);
    const lifted = apply(state, changes([{ op: 'delete', kind: 'quarantine', key: HELD.key }], 7));
    expect(lifted.quarantines.size).toBe(0);
    // A snapshot is everything.
    expect(apply(state, snapshot([], 8)).quarantines.size).toBe(0);
  });

  test('refuses one under a key that is not its own, and two of one key', () => {
    const foreign = { ...HELD, key: 'workload spiffe://example.org/web' } as SyncItem;
    expect(reasonOf(() => apply(FULL, changes([{ op: 'put', item: foreign }])))).toBe('sync_refused');
    expect(reasonOf(() => apply(EMPTY_SYNC_STATE, snapshot([HELD, HELD])))).toBe('sync_refused');
  });
});

describe('applySyncUpdate()', () => {
  test('takes a snapshot for the whole state: what is absent is gone', () => {
    expect([FULL.entries.size, FULL.directory.size, FULL.bundles.size]).toEqual([1, 1, 1]);
    expect(FULL.policy).toEqual(POLICY.value as never);
    expect(FULL.position).toEqual({ epoch: 'e1', cursor: 5 });
    const next = apply(FULL, snapshot([entryItem(2)], 1, 'e2'));
    expect([...next.entries.keys()]).toEqual([entryItem(2).key]);
    expect(next.directory.size).toBe(0);
    expect(next.policy).toBeUndefined();
  });

  test('applies changes in their order', () => {
    const next = apply(
      FULL,
      changes([
        { op: 'delete', kind: 'entry', key: entryItem(1).key },
        { op: 'put', item: entryItem(2) },
        { op: 'put', item: entryItem(2, '/other') },
        { op: 'put', item: directoryItem('192.0.2.2') },
        { op: 'delete', kind: 'directory', key: directoryItem('192.0.2.1').key },
        { op: 'delete', kind: 'policy', key: 'mesh' },
        { op: 'put', item: bundleItem(bundle(1, root, 'other.example')) },
      ]),
    );
    expect([...next.entries.values()].map(({ spiffeId }) => spiffeId as string)).toEqual([
      'spiffe://example.org/other',
    ]);
    expect([...next.directory.values()].map(({ address }) => address)).toEqual(['192.0.2.2']);
    expect(next.policy).toBeUndefined();
    expect([...next.bundles.keys()] as string[]).toEqual(['example.org', 'other.example']);
    expect(next.position?.cursor).toBe(6);
  });

  test('deleting what is not there is nothing', () => {
    const next = apply(FULL, changes([{ op: 'delete', kind: 'entry', key: 'nothing' }]));
    expect(next.entries).toBe(FULL.entries);
  });

  test('keeps modes of enforcement, and takes one that it does not know for enforce', () => {
    const told = apply(FULL, changes([{ op: 'put', item: modeItem('/shop/*', 'audit') }]));
    const scope = parseEnforcementScope('spiffe://example.org/shop/*');
    expect([...told.enforcement]).toEqual([[scope, 'audit']]);
    expect(apply(told, changes([{ op: 'put', item: entryItem(1) }], 7)).enforcement).toBe(told.enforcement);
    const kept = syncMessage.parse(JSON.parse(JSON.stringify(toSnapshot(told)))) as SyncUpdate;
    expect(apply(EMPTY_SYNC_STATE, kept).enforcement).toEqual(told.enforcement);
    const unknown = JSON.stringify(toSnapshot(told)).replace('"audit"', '"whatever"');
    const read = apply(EMPTY_SYNC_STATE, syncMessage.parse(JSON.parse(unknown)) as SyncUpdate);
    expect([...read.enforcement]).toEqual([[scope, 'enforce']]);
    const gone = apply(told, changes([{ op: 'delete', kind: 'enforcement', key: scope }], 7));
    expect(gone.enforcement.size).toBe(0);
  });

  test('keeps the references of what a snapshot only repeats', () => {
    const again = syncMessage.parse(JSON.parse(JSON.stringify(toSnapshot(FULL)))) as SyncUpdate;
    const next = apply(FULL, again);
    expect(next.entries).toBe(FULL.entries);
    expect(next.bundles).toBe(FULL.bundles);
    expect(next.directory).toBe(FULL.directory);
    expect(next.policy).toBe(FULL.policy);
  });

  test('leaves the state as it was, whatever the message is', () => {
    const before = JSON.stringify(toSnapshot(FULL));
    apply(FULL, changes([{ op: 'delete', kind: 'entry', key: entryItem(1).key }]));
    expect(JSON.stringify(toSnapshot(FULL))).toBe(before);
  });

  test('never goes back to an older bundle, unless the epoch is another', () => {
    const newer = withBundle(FULL, bundle(7, otherRoot));
    const next = apply(newer, changes([{ op: 'put', item: bundleItem(bundle(3)) }]));
    expect(next.bundles.get(TRUST_DOMAIN)?.sequence).toBe(7);
    expect(apply(newer, snapshot([], 1, 'e2')).bundles.get(TRUST_DOMAIN)?.sequence).toBe(1);
  });

  test.each<[string, SyncState, SyncUpdate]>([
    ['changes before any snapshot', EMPTY_SYNC_STATE, changes([])],
    ['changes of another epoch', FULL, changes([], 6, 'e2')],
    ['changes that go back', FULL, changes([], 4)],
    ['two of a key', FULL, snapshot([entryItem(1), entryItem(1)])],
    ['two policies', FULL, snapshot([POLICY, POLICY])],
    ['an entry under a foreign key', FULL, snapshot([{ ...entryItem(1), key: entryItem(2).key }])],
    ['an entry for an agent', FULL, snapshot([entryItem(1, '/picket/agent/tpm/b')])],
    ['an entry for the server', FULL, snapshot([entryItem(1, '/picket/server')])],
    ['an entry for the trust domain itself', FULL, snapshot([entryItem(1, '')])],
    ['an entry of another trust domain', FULL, snapshot([foreignEntry()])],
    ['a directory record under a foreign key', FULL, snapshot([directoryItem('192.0.2.9', '/web', 'x')])],
    ['a directory record for an agent', FULL, snapshot([directoryItem('192.0.2.9', '/picket/agent/a/b')])],
    ['a mode under a foreign key', FULL, snapshot([{ ...modeItem('/web', 'audit'), key: 'x' }])],
    ['a mode of a scope that cannot be read', FULL, snapshot([modeItem('/we*', 'audit')])],
    ['a mode of a scope in another spelling', FULL, snapshot([modeItem('/web', 'audit', 'Example.org')])],
    ['two modes of a scope', FULL, snapshot([modeItem('/web', 'audit'), modeItem('/web', 'enforce')])],
    ['a policy under another key', FULL, snapshot([{ ...POLICY, key: 'admin' }])],
    [
      'a bundle under a foreign key',
      FULL,
      snapshot([{ ...bundleItem(bundle(1, root, 'other.example')), key: 'third.example' }]),
    ],
    ['no bundle of our own', FULL, { kind: 'snapshot', epoch: 'e1', cursor: 9, items: [entryItem(1)] }],
    ['the end of our own bundle', FULL, changes([{ op: 'delete', kind: 'bundle', key: 'example.org' }])],
    [
      'an empty bundle of our own',
      FULL,
      changes([{ op: 'put', item: bundleItem({ ...bundle(9), x509Authorities: [] }) }]),
    ],
  ])('refuses %s', (_name, state, update) => {
    expect(reasonOf(() => apply(state, update))).toBe('sync_refused');
  });

  test.each([
    '127.0.0.1',
    '127.9.9.9',
    '::1',
    '::ffff:127.0.0.1',
    '169.254.1.1',
    'fe80::1',
    '0.0.0.0',
    '::',
    '224.0.0.1',
    'ff02::1',
    '255.255.255.255',
  ])('refuses %s in the directory: it is not one host’s', (address) => {
    expect(reasonOf(() => apply(EMPTY_SYNC_STATE, snapshot([directoryItem(address)])))).toBe('sync_refused');
  });

  test('spells addresses of the directory in one way', () => {
    const state = apply(EMPTY_SYNC_STATE, snapshot([directoryItem('2001:DB8:0::1')]));
    expect([...state.directory.values()][0]?.address).toBe('2001:db8::1');
  });
});

describe('toSnapshot()', () => {
  test('is read back as the same state', () => {
    const kept = syncMessage.parse(JSON.parse(JSON.stringify(toSnapshot(FULL)))) as SyncUpdate;
    expect(apply(EMPTY_SYNC_STATE, kept)).toEqual(FULL);
  });
});

describe('withBundle()', () => {
  test('takes a newer bundle and no older one, and changes nothing for the same', () => {
    const newer = withBundle(FULL, bundle(2, otherRoot));
    expect(newer.bundles.get(TRUST_DOMAIN)?.x509Authorities).toEqual([otherRoot]);
    expect(withBundle(newer, bundle(1))).toBe(newer);
    expect(withBundle(newer, bundle(2, otherRoot))).toBe(newer);
  });
});

function foreignEntry(): SyncItem {
  const item = entryItem(1);
  if (item.kind !== 'entry') throw new TypeError('It is an entry');
  return { ...item, value: { ...item.value, spiffeId: parseSpiffeId('spiffe://other.example/web') } };
}
