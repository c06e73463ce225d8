import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { testAccessRecord, testSpool } from '../../tests/kit/audit-batches.ts';
import { changesOf } from '../../tests/kit/change-recorder.ts';
import { DATASTORES, silentLog, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { AccessLog } from '../audit/access-log.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { enforcementModes } from '../datastore/schema.ts';
import { readSharedItems } from '../sync/sync-items.ts';
import { reportEnforcement } from './enforcement-report.ts';
import { Enforcements, MAX_ENFORCEMENT_MODES, readEnforcementItems } from './enforcement.ts';

describe.each(DATASTORES)('Enforcements (%s)', (_name, open) => {
  let kept: TestDatastore;
  let datastore: Datastore;
  let enforcements: Enforcements;
  const clock = new FakeClock();
  beforeAll(async () => {
    kept = await open();
    ({ datastore } = kept);
    enforcements = new Enforcements({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
  }, 60_000);
  afterAll(async () => await kept.dispose());
  beforeEach(async () => {
    await datastore.write(async ({ db }) => void (await db.delete(enforcementModes)));
  });
  const set = async (scope: string, mode: 'audit' | 'enforce') =>
    await enforcements.set({ scope: enforcements.scopeOf(scope), mode, setBy: 'me' });

  test('scopeOf() reads a path as one of the own trust domain, and refuses what is of another', () => {
    expect(enforcements.scopeOf('/shop/*')).toBe(enforcements.scopeOf(`${testWorkloadId('/shop')}/*`));
    const reason = (text: string): unknown => reasonOf(() => enforcements.scopeOf(text));
    expect(reason('spiffe://elsewhere.org/shop')).toBe('enforcement_scope_foreign');
    for (const text of ['/', '', 'shop', '/shop/', '/sh*op'])
      expect(reason(text)).toBe('enforcement_scope_invalid');
  });

  test('set() tells every agent, keeps who and when, and replaces what was there', async () => {
    const web = testWorkloadId('/web');
    expect(await changesOf(datastore, async () => await set('/web', 'audit'))).toEqual([
      `enforcement ${web}`,
    ]);
    await set('/shop/*', 'audit');
    await set('/web', 'enforce');
    const { items } = await enforcements.list();
    expect(items).toMatchObject([
      { scope: `${testWorkloadId('/shop')}/*`, mode: 'audit', setBy: 'me', setAt: new Date(clock.nowMs()) },
      { scope: web, mode: 'enforce' },
    ]);
    const { items: shared } = await readSharedItems(datastore.db);
    expect(shared.filter(({ kind }) => kind === 'enforcement')).toHaveLength(2);
    expect(await readEnforcementItems(datastore.db, [web])).toEqual([
      { kind: 'enforcement', key: web, value: { scope: enforcements.scopeOf('/web'), mode: 'enforce' } },
    ]);
  });

  test('clear() tells every agent, once', async () => {
    await set('/web', 'audit');
    const scope = enforcements.scopeOf('/web');
    expect(await changesOf(datastore, async () => await enforcements.clear(scope))).toEqual([
      `enforcement ${scope}`,
    ]);
    expect(enforcements.clear(scope)).rejects.toMatchObject({ reason: 'enforcement_unknown' });
    expect(await readEnforcementItems(datastore.db)).toEqual([]);
  });

  test('list() goes on page by page', async () => {
    for (const path of ['/a', '/b', '/c']) await set(path, 'audit');
    const { items, nextCursor } = await enforcements.list({ limit: 2 });
    expect(items).toHaveLength(2);
    const rest = await enforcements.list({ limit: 2, cursor: nextCursor ?? '' });
    expect(rest.items.map(({ scope }) => scope)).toEqual([enforcements.scopeOf('/c')]);
    expect(rest.nextCursor).toBeUndefined();
  });

  test('set() keeps no more than every agent can hold', async () => {
    const rows = Array.from({ length: MAX_ENFORCEMENT_MODES }, (_, i) => ({
      scope: testWorkloadId(`/many/${i}`),
      mode: 'audit' as const,
      setBy: 'me',
    }));
    await datastore.write(async ({ db }) => {
      for (let i = 0; i < rows.length; i += 1000)
        await db.insert(enforcementModes).values(rows.slice(i, i + 1000));
    });
    expect(set('/one-more', 'audit')).rejects.toMatchObject({ reason: 'too_many_enforcement_modes' });
    await set('/many/1', 'enforce');
  });
});

describe.each(DATASTORES)('reportEnforcement() (%s)', (_name, open) => {
  let kept: TestDatastore;
  let log: AccessLog;
  let enforcements: Enforcements;
  const atMs = Date.parse('2026-11-24T10:00:00.000Z');
  const records: Partial<AccessRecord>[] = [];
  beforeAll(async () => {
    kept = await open();
    const { datastore } = kept;
    log = new AccessLog({ datastore, log: silentLog });
    enforcements = new Enforcements({ datastore, clock: new FakeClock(), trustDomain: TEST_TRUST_DOMAIN });
    const web = testWorkloadId('/shop/web');
    const denied = { target_spiffe_id: web, reason: 'policy_deny', would_deny: true } as const;
    records.push(
      { ...denied, path: '/refunds?id=1' },
      { ...denied, path: '/refunds?id=2', ts: '2026-11-24T10:00:05.000Z' },
      { ...denied, path: '/refunds', method: 'POST' },
      { ...denied, path: '/refunds', rules: ['no-refunds', "o'clock, {}"] },
      { ...denied, caller_spiffe_id: null, source: '192.0.2.9:555', path: '/plain' },
      { ...denied, caller_spiffe_id: null, source: '[fd09::9]:7', path: '/plain' },
      { ...denied, protocol: 'tcp', method: null, path: null },
      { ...denied, direction: 'outbound', reason: 'egress_deny', protocol: 'tcp', method: null, path: null },
      { ...denied, target_spiffe_id: testWorkloadId('/shop/web/below') },
      { ...denied, ts: '2026-11-24T09:59:59.999Z' },
      { target_spiffe_id: web },
      { target_spiffe_id: web, decision: 'deny', reason: 'policy_deny' },
      { target_spiffe_id: testWorkloadId('/shopping') },
    );
    const texts = records.map((change) => JSON.stringify(testAccessRecord(change)));
    await log.store(testAgentId('one'), { epoch: 'e'.repeat(32), records: testSpool(texts) });
  }, 60_000);
  afterAll(async () => await kept.dispose());
  const report = async (scope: string, untilMs = atMs + 60_000) =>
    await reportEnforcement(kept.datastore, {
      scope: enforcements.scopeOf(scope),
      sinceMs: atMs,
      untilMs,
    });

  test('counts what would be denied by caller, method, path without query, reason and rules', async () => {
    const found = await report('/shop/web');
    expect(found).toMatchObject({ decisions: 9, plaintext: 2, wouldDeny: 8, isTruncated: false });
    const caller = testWorkloadId('/a');
    const line = {
      caller,
      source: null,
      method: 'GET',
      path: null,
      reason: 'policy_deny',
      rules: [] as string[],
    };
    expect(found.items[0]).toMatchObject({
      ...line,
      path: '/refunds',
      count: 2,
      lastAt: '2026-11-24T10:00:05.000Z',
    });
    const others = [
      { ...line, path: '/refunds', method: 'POST' },
      { ...line, path: '/refunds', rules: ['no-refunds', "o'clock, {}"] },
      { ...line, caller: null, source: '192.0.2.9', path: '/plain' },
      { ...line, caller: null, source: 'fd09::9', path: '/plain' },
      { ...line, method: null, path: null },
      { ...line, method: null, path: null, reason: 'egress_deny' },
    ];
    expect(found.items).toHaveLength(1 + others.length);
    const rest = found.items.slice(1).map(({ target: _target, lastAt: _lastAt, ...item }) => item);
    for (const other of others) expect(rest).toContainEqual({ ...other, count: 1 });
  });

  test('takes all below an ID, and nothing of before or after', async () => {
    const below = await report('/shop/*');
    expect([below.decisions, below.wouldDeny]).toEqual([10, 9]);
    const earlier = await report('/shop/web', atMs + 1000);
    expect(earlier.items[0]).toMatchObject({ count: 1 });
    expect(await report('/nobody')).toMatchObject({ decisions: 0, wouldDeny: 0, items: [] });
  });

  test('reads no more records than it may, the newest, and says so', async () => {
    const found = await reportEnforcement(kept.datastore, {
      scope: enforcements.scopeOf('/shop/web'),
      sinceMs: atMs,
      untilMs: atMs + 60_000,
      maxRecords: 1,
    });
    expect(found).toMatchObject({ decisions: 1, wouldDeny: 1, isTruncated: true });
    expect(found.items).toMatchObject([{ path: '/refunds', lastAt: '2026-11-24T10:00:05.000Z' }]);
  });

  test('query() finds what would have been denied', async () => {
    const { records: found } = await log.query({ wouldDeny: true, limit: 100 });
    expect(found).toHaveLength(records.filter((record) => record.would_deny).length);
    expect(found.every(({ record }) => record.would_deny === true && record.decision === 'allow')).toBe(true);
    const rest = await log.query({ wouldDeny: false, limit: 100 });
    expect(rest.records).toHaveLength(records.length - found.length);
  });
});
