import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { Entry } from '../../shared/protocol/registration.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { changesOf } from '../../tests/kit/change-recorder.ts';
import { DATASTORES, silentLog, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testAttestation, testEntry, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { Nodes } from '../agents/nodes.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { Registration } from './registration.ts';

describe.each(DATASTORES)('Registration (%s)', (_name, open) => {
  let kept: TestDatastore;
  let datastore: Datastore;
  let registration: Registration;
  beforeAll(async () => {
    kept = await open();
    datastore = kept.datastore;
    const clock = new FakeClock();
    registration = new Registration({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
    const declaredAddresses = ['192.0.2.1'];
    await new Nodes({ datastore, clock, log: silentLog }).recordAttestation(
      testAttestation('meshed', { declaredAddresses }),
    );
  });
  afterAll(() => kept.dispose());

  test('create() keeps the entry in its one spelling', async () => {
    const selectors = ['unix:uid:2', 'unix:uid:1', 'unix:uid:2'].map(parseSelector);
    const entry = await registration.create(
      testEntry('one', '/spelling', {
        selectors,
        dnsNames: ['b.example', 'a.example', 'b.example'],
        federatesWith: ['z.example', 'a.example', 'z.example'],
        listeners: [
          { port: 90, protocol: 'tcp' },
          { port: 80, protocol: 'auto' },
        ],
      }),
    );
    expect(entry).toMatchObject({
      selectors: ['unix:uid:1', 'unix:uid:2'],
      dnsNames: ['a.example', 'b.example'],
      federatesWith: ['a.example', 'z.example'],
      listeners: [
        { port: 80, protocol: 'auto' },
        { port: 90, protocol: 'tcp' },
      ],
      revision: 0,
    });
    expect(await registration.find(entry.entryId)).toEqual(entry);
  });

  test('create() refuses the same grant twice, whatever the order of the selectors', async () => {
    const selectors = ['unix:uid:1', 'unix:gid:1'].map(parseSelector);
    await registration.create(testEntry('one', '/twice', { selectors }));
    const again = testEntry('one', '/twice', { selectors: selectors.toReversed() });
    expect(registration.create(again)).rejects.toMatchObject({
      code: 'already_exists',
      reason: 'entry_exists',
    });
    await registration.create(testEntry('one', '/twice'));
    await registration.create(testEntry('two', '/twice', { selectors }));
  });

  test('create() takes IDs and selectors of the greatest length', async () => {
    const long = (start: string, length: number): string => start + 'x'.repeat(length - start.length);
    const selectors = Array.from({ length: 32 }, (_, i) => parseSelector(long(`unix:path:/${i}`, 1024)));
    const entry = await registration.create(
      testEntry('one', '/x', {
        spiffeId: parseSpiffeId(long('spiffe://example.org/a', 2048)),
        parentId: parseSpiffeId(long('spiffe://example.org/picket/agent/tpm/', 2048)),
        selectors,
        listeners: [{ port: 1, protocol: 'auto' }],
      }),
    );
    expect(await registration.find(entry.entryId)).toEqual(entry);
  });

  test.each([
    [{ spiffeId: parseSpiffeId('spiffe://other.example/a') }, 'spiffe_id_foreign'],
    [{ spiffeId: parseSpiffeId('spiffe://example.org') }, 'spiffe_id_reserved'],
    [{ spiffeId: parseSpiffeId('spiffe://example.org/picket') }, 'spiffe_id_reserved'],
    [{ spiffeId: parseSpiffeId('spiffe://example.org/picket/server') }, 'spiffe_id_reserved'],
    [{ spiffeId: testAgentId('one') }, 'spiffe_id_reserved'],
    [{ parentId: testWorkloadId('/a') }, 'parent_invalid'],
    [{ parentId: parseSpiffeId('spiffe://other.example/picket/agent/tpm/one') }, 'parent_invalid'],
    [{ selectors: [parseSelector('unix:uid:www-data')] }, 'selector_unknown'],
    [{ federatesWith: ['UPPER'] }, 'trust_domain_invalid'],
    [{ hint: 'a\0b' }, 'text_invalid'],
    [
      {
        listeners: [
          { port: 80, protocol: 'auto' as const },
          { port: 80, protocol: 'tcp' as const },
        ],
      },
      'listener_repeated',
    ],
    [
      { listeners: [{ port: 15_008, protocol: 'egress' as const, transparent: true as const }] },
      'gateway_connects_nobody',
    ],
    [
      { listeners: [{ port: 15_008, protocol: 'egress' as const, proxyProtocol: 'v2' as const }] },
      'gateway_connects_nobody',
    ],
  ])('create() refuses %j', async (change, reason) => {
    expect(registration.create(testEntry('one', '/bad', change))).rejects.toMatchObject({
      code: 'invalid_argument',
      reason,
    });
  });

  test('create() takes one port of a host for several identities at different addresses, in one spelling, and refuses two at one', async () => {
    const at = (address?: string) => [
      { port: 80, protocol: 'auto' as const, ...(address === undefined ? {} : { address }) },
    ];
    const create = async (path: string, address?: string): Promise<unknown> =>
      await registration.create(testEntry('pods', path, { listeners: at(address) }));
    await create('/all');
    expect(await create('/first', 'FD08:0::2')).toMatchObject({ listeners: at('fd08::2') });
    await create('/second', '10.8.0.2');
    for (const address of ['fd08::2', undefined])
      expect(create('/rival', address)).rejects.toMatchObject({ reason: 'listener_conflict' });
    expect(create('/loopback', '127.0.0.1')).rejects.toMatchObject({ reason: 'address_invalid' });
  });

  test('create() refuses a second identity at a port of a host, under a race too', async () => {
    const listeners = [{ port: 80, protocol: 'auto' as const }];
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => registration.create(testEntry('rivals', `/r${i}`, { listeners }))),
    );
    const refused = results.filter((result) => result.status === 'rejected');
    expect(refused).toHaveLength(7);
    for (const { reason } of refused)
      expect(reason).toMatchObject({ code: 'already_exists', reason: 'listener_conflict' });
    const winner = (await registration.list({ parentId: testAgentId('rivals') })).entries[0]!;
    const selectors = [parseSelector('unix:uid:7')];
    const protocol = [{ port: 80, protocol: 'tcp' as const }];
    await registration.create({ ...winner, selectors });
    const other = { ...winner, selectors: [parseSelector('unix:uid:8')], listeners: protocol };
    expect(registration.create(other)).rejects.toMatchObject({ reason: 'listener_conflict' });
    const asking = { port: 80, protocol: 'tcp' as const };
    for (const listener of [
      { ...asking, proxyProtocol: 'v2' as const },
      { ...asking, transparent: true as const },
    ])
      expect(registration.create({ ...other, listeners: [listener] })).rejects.toMatchObject({
        reason: 'listener_conflict',
      });
  });

  test('create(), update() and delete() note what agents must learn', async () => {
    const listeners = [{ port: 8080, protocol: 'http' as const }];
    const agent = testAgentId('meshed');
    const key = (port: number) => `directory default|192.0.2.1|${port}|spiffe://example.org/noted`;
    let entry!: Entry;
    const created = await changesOf(datastore, async () => {
      entry = await registration.create(testEntry('meshed', '/noted', { listeners }));
    });
    expect(created).toEqual([`entry ${entry.entryId} for ${agent}`, key(8080)]);
    const wish = testEntry('meshed', '/noted', { listeners: [{ port: 8081, protocol: 'http' }] });
    const moved = await changesOf(datastore, () => registration.update(entry.entryId, { wish, revision: 0 }));
    expect(moved).toEqual([`entry ${entry.entryId} for ${agent}`, key(8080), key(8081)]);
    const left = await changesOf(datastore, () =>
      registration.update(entry.entryId, { wish: testEntry('one', '/noted', { listeners }), revision: 1 }),
    );
    expect(left.toSorted()).toEqual(
      [
        `entry ${entry.entryId} for ${agent}`,
        `entry ${entry.entryId} for ${testAgentId('one')}`,
        key(8081),
      ].toSorted(),
    );
    const gone = await changesOf(datastore, () => registration.delete(entry.entryId));
    expect(gone).toEqual([`entry ${entry.entryId} for ${testAgentId('one')}`]);
  });

  test('update() goes to exactly one of those that saw the same revision', async () => {
    const entry = await registration.create(testEntry('one', '/updated'));
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) =>
        registration.update(entry.entryId, { wish: { ...entry, hint: `h${i}` }, revision: 0 }),
      ),
    );
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    for (const result of results)
      if (result.status === 'rejected')
        expect(result.reason).toMatchObject({
          code: 'failed_precondition',
          reason: 'revision_mismatch',
        });
    expect(await registration.find(entry.entryId)).toMatchObject({
      revision: 1,
      createdAt: entry.createdAt,
    });
  });

  test('update() refuses what create() refuses', async () => {
    const first = await registration.create(testEntry('one', '/clash-1'));
    const second = await registration.create(testEntry('one', '/clash-2'));
    expect(registration.update(second.entryId, { wish: first, revision: 0 })).rejects.toMatchObject({
      reason: 'entry_exists',
    });
    const wish = testEntry('one', '/x', { spiffeId: testAgentId('a') });
    expect(registration.update(second.entryId, { wish, revision: 0 })).rejects.toMatchObject({
      reason: 'spiffe_id_reserved',
    });
  });

  test('update() and delete() do not find an entry that is gone', async () => {
    const entry = await registration.create(testEntry('one', '/gone'));
    expect(registration.delete(entry.entryId, { revision: 1 })).rejects.toMatchObject({
      reason: 'revision_mismatch',
    });
    expect(await registration.delete(entry.entryId, { revision: 0 })).toEqual(entry);
    for (const id of [entry.entryId, 'not-a-uuid', '']) {
      expect(await registration.find(id)).toBeUndefined();
      expect(registration.delete(id)).rejects.toMatchObject({ code: 'not_found', reason: 'entry_unknown' });
      expect(registration.update(id, { wish: entry, revision: 0 })).rejects.toMatchObject({
        reason: 'entry_unknown',
      });
    }
  });

  test('list() pages through everything once, filtered', async () => {
    const parentId = testAgentId('paged');
    const created = [];
    for (let i = 0; i < 7; i += 1)
      created.push(
        await registration.create(
          testEntry('paged', `/p${i % 3}`, {
            selectors: [parseSelector(`unix:uid:${i}`), parseSelector(i < 2 ? 'unix:gid:1' : 'unix:gid:2')],
          }),
        ),
      );
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await registration.list({
        parentId,
        limit: 3,
        ...(cursor === undefined ? {} : { cursor }),
      });
      expect(page.entries.length).toBeLessThanOrEqual(3);
      seen.push(...page.entries.map((entry) => entry.entryId));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    expect(seen.toSorted()).toEqual(created.map((entry) => entry.entryId).toSorted());
    const bySelector = await registration.list({ parentId, selector: parseSelector('unix:gid:1') });
    expect(bySelector.entries).toHaveLength(2);
    const byId = await registration.list({ parentId, spiffeId: testWorkloadId('/p0') });
    expect(byId.entries).toHaveLength(3);
    expect(registration.list({ cursor: 'x' })).rejects.toMatchObject({ reason: 'cursor_invalid' });
    expect(registration.list({ limit: 0 })).rejects.toMatchObject({ reason: 'limit_invalid' });
  });

  test('findOfParent() finds an agent’s own entries alone', async () => {
    const mine = await registration.create(testEntry('mine', '/m'));
    const theirs = await registration.create(testEntry('theirs', '/m'));
    const ids = [mine.entryId, theirs.entryId, 'not-a-uuid'];
    expect(await registration.findOfParent(testAgentId('mine'), ids)).toEqual(
      new Map([[mine.entryId, mine]]),
    );
    expect(await registration.findOfParent(testAgentId('mine'), [])).toEqual(new Map());
  });
});
