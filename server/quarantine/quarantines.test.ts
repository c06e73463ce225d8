import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { sql } from 'drizzle-orm';
import { changesOf } from '../../tests/kit/change-recorder.ts';
import { DATASTORES, silentLog, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testAttestation, testEntry, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { NodeAddresses } from '../agents/node-addresses.ts';
import { Nodes } from '../agents/nodes.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { issuedSvids, quarantines as table } from '../datastore/schema.ts';
import { Registration } from '../registration/registration.ts';
import { readSharedItems } from '../sync/sync-items.ts';
import { readQuarantineItems } from './quarantine-items.ts';
import type { QuarantineKey } from './quarantine-subject.ts';
import { MAX_QUARANTINES, Quarantines } from './quarantines.ts';

const NODE: QuarantineKey = { kind: 'node', subject: testAgentId('one') };
const workload = (path: string): QuarantineKey => ({ kind: 'workload', subject: testWorkloadId(path) });
const segment = (path: string): QuarantineKey => ({ kind: 'segment', subject: testWorkloadId(path) });

describe.each(DATASTORES)('Quarantines (%s)', (_name, open) => {
  let kept: TestDatastore;
  let datastore: Datastore;
  let quarantines: Quarantines;
  let nodes: Nodes;
  let registration: Registration;
  const clock = new FakeClock();
  beforeAll(async () => {
    kept = await open();
    ({ datastore } = kept);
    quarantines = new Quarantines({ datastore, clock });
    nodes = new Nodes({ datastore, clock, log: silentLog });
    await nodes.recordAttestation(testAttestation('one', { declaredAddresses: ['192.0.2.1'] }));
    registration = new Registration({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
    for (const path of ['/ns/a', '/ns/a/sa/x', '/ns/ab', '/ns/a_b/sa/x', '/ns/axb'])
      await registration.create(testEntry('one', path));
  }, 60_000);
  afterAll(async () => await kept.dispose());
  beforeEach(async () => {
    await datastore.write(async ({ db }) => void (await db.delete(table)));
  });
  const add = async (key: QuarantineKey, ttlSeconds?: number) =>
    await quarantines.add({
      ...key,
      reason: 'because',
      createdBy: 'me',
      ...(ttlSeconds === undefined ? {} : { ttlSeconds }),
    });

  test('add() tells every agent, and again when reason or end change', async () => {
    const key = `workload ${testWorkloadId('/web')}`;
    expect(await changesOf(datastore, async () => await add(workload('/web')))).toEqual([
      `quarantine ${key}`,
    ]);
    expect(await changesOf(datastore, async () => await add(workload('/web'), 60))).toEqual([
      `quarantine ${key}`,
    ]);
    const { quarantines: found } = await quarantines.list();
    expect(found).toMatchObject([
      { ...workload('/web'), reason: 'because', createdBy: 'me', until: new Date(clock.nowMs() + 60_000) },
    ]);
  });

  test('lift() ends it, once, and only the one that is meant', async () => {
    const { until } = await add(workload('/web'), 60);
    await add(segment('/web'));
    const longer = new Date((until?.getTime() ?? 0) + 1);
    expect(quarantines.lift(workload('/web'), { until: longer })).rejects.toMatchObject({
      code: 'not_found',
      reason: 'quarantine_unknown',
    });
    if (until !== null) await quarantines.lift(workload('/web'), { until });
    expect(quarantines.lift(workload('/web'))).rejects.toMatchObject({ reason: 'quarantine_unknown' });
    expect((await quarantines.list()).quarantines.map(({ kind }) => kind)).toEqual(['segment']);
  });

  test.each([
    workload(''),
    workload('/picket/server'),
    { kind: 'workload', subject: testAgentId('one') },
    { kind: 'node', subject: testWorkloadId('/web') },
    segment('/picket'),
    segment('/picket/agent'),
  ] as const)('add() refuses %p, which would hold nobody', async (key) => {
    expect(add(key)).rejects.toMatchObject({
      code: 'invalid_argument',
      reason: 'quarantine_subject_invalid',
    });
    expect((await quarantines.list()).quarantines).toEqual([]);
  });

  test('list() gives pages that together are everything', async () => {
    for (const path of ['/a', '/b', '/c']) await add(workload(path));
    await add(NODE);
    await add(segment(''));
    const seen: string[] = [];
    for (let cursor: string | undefined; ;) {
      const page = await quarantines.list({ limit: 2, ...(cursor === undefined ? {} : { cursor }) });
      seen.push(...page.quarantines.map(({ kind, subject }) => `${kind} ${subject}`));
      cursor = page.nextCursor;
      if (cursor === undefined) break;
    }
    expect(seen).toHaveLength(5);
    expect(new Set(seen).size).toBe(5);
  });

  test('countCovered() and findHolding() take segments by whole path segments', async () => {
    const counts = async (key: QuarantineKey) => await quarantines.countCovered(key);
    expect(await counts(segment('/ns/a'))).toBe(2);
    expect(await counts(segment('/ns/a_b'))).toBe(1);
    expect(await counts(segment('/ns'))).toBe(5);
    expect(await counts(segment(''))).toBe(5);
    expect(await counts(workload('/ns/a'))).toBe(1);
    expect(await counts(NODE)).toBe(5);
    const ids = ['/ns/a', '/ns/a/sa/x', '/ns/ab', '/ns/axb'].map(testWorkloadId);
    await add(segment('/ns/a'));
    const held = await quarantines.findHolding(testAgentId('two'), ids);
    expect([...held.keys()]).toEqual(ids.slice(0, 2));
    await add(NODE);
    expect((await quarantines.findHolding(testAgentId('two'), ids)).size).toBe(2);
    expect((await quarantines.findHolding(testAgentId('one'), ids)).size).toBe(4);
  });

  test('a quarantined node is told with its confirmed addresses and the certificates that it has, and told anew when an address changes', async () => {
    const life = { notBefore: new Date(0), notAfter: new Date(clock.nowMs() + 60_000), chainPem: '' };
    const issue = { ...life, spiffeId: testWorkloadId('/web'), entryId: crypto.randomUUID() };
    await datastore.write(async ({ db }) => {
      await db.insert(issuedSvids).values([
        { ...issue, serial: 'aa', nodeId: testAgentId('one') },
        { ...issue, serial: 'bb', nodeId: testAgentId('two') },
        { ...issue, serial: 'cc', nodeId: testAgentId('one'), entryId: null },
      ]);
    });
    await add(NODE);
    await add(workload('/web'));
    const read = async () => await datastore.readSnapshot(async (db) => await readQuarantineItems(db));
    const byKind = async (kind: string) => (await read()).find((item) => item.value.kind === kind)?.value;
    expect(await byKind('node')).toMatchObject({ addresses: ['192.0.2.1'], serials: ['aa'] });
    expect(await byKind('workload')).toMatchObject({ addresses: [], serials: [] });
    const addresses = new NodeAddresses(datastore);
    const address = { nodeId: testAgentId('one'), address: '192.0.2.9' };
    const told = `quarantine node ${testAgentId('one')}`;
    expect(await changesOf(datastore, async () => await addresses.confirm(address, 'operator'))).toContain(
      told,
    );
    expect((await byKind('node'))?.addresses.toSorted()).toEqual(['192.0.2.1', '192.0.2.9']);
    // Nobody lifts half of it by making the server forget the host.
    const held = { code: 'failed_precondition', reason: 'node_quarantined' };
    expect(await refusalOf(addresses.withdraw(address))).toMatchObject(held);
    expect(await refusalOf(nodes.evict(address.nodeId))).toMatchObject(held);
    expect((await byKind('node'))?.addresses.toSorted()).toEqual(['192.0.2.1', '192.0.2.9']);
    const attest = async () =>
      await nodes.recordAttestation(testAttestation('one', { declaredAddresses: ['192.0.2.8'] }));
    expect(await changesOf(datastore, attest)).toContain(told);
    // What says nothing new makes no agent judge everything again.
    expect(await changesOf(datastore, attest)).not.toContain(told);
    expect((await byKind('node'))?.addresses.toSorted()).toEqual(['192.0.2.1', '192.0.2.8', '192.0.2.9']);
    // One key alone, and what is shared by all.
    const one = await datastore.readSnapshot(
      async (db) => await readQuarantineItems(db, [`workload ${testWorkloadId('/web')}`]),
    );
    expect(one.map(({ key }) => key)).toEqual([`workload ${testWorkloadId('/web')}`]);
    const { items } = await datastore.readSnapshot(readSharedItems);
    expect(items.filter(({ kind }) => kind === 'quarantine')).toHaveLength(2);
    await quarantines.lift(NODE);
    expect(await addresses.withdraw(address)).toBe(true);
  });

  test.each([workload('/ns/held/sa/x'), segment('/ns/held')])(
    'the entry by which its host knows a workload stays as long as %p is held',
    async (key) => {
      const wish = testEntry('one', '/ns/held/sa/x');
      const { entryId } = await registration.create(wish);
      await add(key);
      const held = { code: 'failed_precondition', reason: 'workload_quarantined' };
      expect(await refusalOf(registration.delete(entryId))).toMatchObject(held);
      for (const change of [
        { selectors: ['unix:uid:77'] },
        { parentId: testAgentId('two') },
        { spiffeId: testWorkloadId('/ns/free') },
      ]) {
        const update = registration.update(entryId, {
          wish: { ...wish, ...change } as typeof wish,
          revision: 0,
        });
        expect(await refusalOf(update)).toMatchObject(held);
      }
      const listeners = [{ port: 8099, protocol: 'tcp' as const }];
      const { revision } = await registration.update(entryId, { wish: { ...wish, listeners }, revision: 0 });
      expect(revision).toBe(1);
      await quarantines.lift(key);
      expect(await registration.delete(entryId)).toMatchObject({ entryId });
    },
  );

  test('a node that is held keeps no entry: the whole host is held', async () => {
    const { entryId } = await registration.create(testEntry('one', '/ns/held/sa/x'));
    await add(NODE);
    expect(await registration.delete(entryId)).toMatchObject({ entryId });
  });

  test('there is an end to how many there are', async () => {
    await datastore.write(async ({ db }) => {
      await db.execute(sql`
        insert into quarantines (kind, subject, reason, created_by)
        select 'workload', 'spiffe://example.org/w/' || n, '', '' from generate_series(1, ${MAX_QUARANTINES}) n`);
    });
    expect(add(workload('/one-more'))).rejects.toMatchObject({ reason: 'too_many_quarantines' });
    expect((await add(workload('/w/1'))).reason).toBe('because');
  });
});
