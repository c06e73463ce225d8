import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { changesOf } from '../../tests/kit/change-recorder.ts';
import { DATASTORES, silentLog, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testAttestation, testEntry, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { NodeAddresses } from '../agents/node-addresses.ts';
import { Nodes } from '../agents/nodes.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { nodePlaces as placesTable, services as servicesTable } from '../datastore/schema.ts';
import { Registration } from '../registration/registration.ts';
import { readSharedItems } from '../sync/sync-items.ts';
import { MAX_PLACES, NodePlaces, readPlaceItems } from './node-places.ts';
import { readServiceItems, Services } from './services.ts';

const WEB = testWorkloadId('/web');
const ADDRESS = { address: '198.18.0.1', port: 80 };

describe.each(DATASTORES)('Services (%s)', (_name, open) => {
  let kept: TestDatastore;
  let datastore: Datastore;
  let services: Services;
  let places: NodePlaces;
  let nodes: Nodes;
  const clock = new FakeClock();
  beforeAll(async () => {
    kept = await open();
    ({ datastore } = kept);
    services = new Services({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
    places = new NodePlaces({ datastore, trustDomain: TEST_TRUST_DOMAIN });
    nodes = new Nodes({ datastore, clock, log: silentLog });
    for (const [name, address] of [
      ['one', '192.0.2.1'],
      ['two', '192.0.2.2'],
    ] as const)
      await nodes.recordAttestation(testAttestation(name, { declaredAddresses: [address] }));
  }, 60_000);
  afterAll(async () => await kept.dispose());
  beforeEach(async () => {
    await datastore.write(async ({ db }) => void (await db.delete(servicesTable)));
  });

  const set = async (name: string, change: object = {}) =>
    await services.set(name, { spiffeId: WEB, port: 8080, addresses: [ADDRESS], createdBy: 'me', ...change });

  test('set() tells every agent, in one spelling of the addresses, and replaces what was there', async () => {
    const six = { address: '2001:DB8:0::5', port: 80 };
    const told = await changesOf(datastore, async () => await set('web', { addresses: [six, ADDRESS, six] }));
    expect(told).toEqual(['service web']);
    const value = {
      name: 'web',
      spiffeId: WEB,
      port: 8080,
      addresses: [{ ...six, address: '2001:db8::5' }, ADDRESS],
    };
    expect(await readServiceItems(datastore.db, ['web'])).toEqual([{ kind: 'service', key: 'web', value }]);
    await set('web', { port: 81 });
    expect(await services.find('web')).toMatchObject({ port: 81, addresses: [ADDRESS], createdBy: 'me' });
    const { items } = await readSharedItems(datastore.db);
    expect(items.filter(({ kind }) => kind === 'service')).toHaveLength(1);
  });

  test.each([
    [{ spiffeId: parseSpiffeId('spiffe://elsewhere.org/web') }, 'spiffe_id_foreign'],
    [{ spiffeId: testAgentId('one') }, 'spiffe_id_reserved'],
    [{ addresses: [{ address: '127.0.0.1', port: 80 }] }, 'address_invalid'],
    [{ addresses: [{ address: '::ffff:127.0.0.1', port: 80 }] }, 'address_invalid'],
    [{ addresses: [{ address: '169.254.1.1', port: 80 }] }, 'address_invalid'],
    [{ addresses: [{ address: '192.0.2.1', port: 9999 }] }, 'service_address_taken'],
  ])('set() refuses %j', async (change, reason) => {
    expect(set('bad', change)).rejects.toMatchObject({ reason });
    expect(await readServiceItems(datastore.db)).toEqual([]);
  });

  test('set() gives an address to one service, under a race too', async () => {
    const results = await Promise.allSettled(['a', 'b', 'c', 'd'].map(async (name) => await set(name)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results)
      if (result.status === 'rejected')
        expect(result.reason).toMatchObject({ reason: 'service_address_taken' });
    await set('other-port', { addresses: [{ ...ADDRESS, port: 81 }] });
  });

  test('an address of a service becomes no node’s, confirmed or declared, nor under a race', async () => {
    const addresses = new NodeAddresses(datastore);
    await set('web');
    const one = { nodeId: testAgentId('one'), address: '::ffff:198.18.0.1' };
    for (const proof of ['operator', 'reached'] as const)
      expect(addresses.confirm(one, proof)).rejects.toMatchObject({
        code: 'already_exists',
        reason: 'service_address_taken',
      });
    await nodes.recordAttestation(
      testAttestation('three', { declaredAddresses: [ADDRESS.address, '192.0.2.3'] }),
    );
    const owned = (await addresses.list()).filter(({ state }) => state === 'confirmed');
    expect(owned.map(({ address }) => String(address)).toSorted()).toEqual([
      '192.0.2.1',
      '192.0.2.2',
      '192.0.2.3',
    ]);
    const free = { address: '198.18.0.9', port: 80 };
    const outcomes = await Promise.allSettled([
      set('other', { addresses: [free] }),
      addresses.confirm({ ...one, address: free.address }, 'operator'),
    ]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    await addresses.withdraw({ ...one, address: free.address });
  });

  test('countMembers() counts confirmed addresses with the listener, of hosts that are not banned', async () => {
    const registration = new Registration({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
    const listeners = [{ port: 8080, protocol: 'auto' as const }];
    await set('web');
    await set('web-81', { port: 8081, addresses: [{ ...ADDRESS, port: 81 }] });
    await set('web-two', { addresses: [{ ...ADDRESS, port: 82 }] });
    const names = ['web', 'web-81', 'web-two', 'nobody'];
    const count = async (): Promise<object> => Object.fromEntries(await services.countMembers(names));
    expect(await count()).toEqual({});
    for (const name of ['one', 'two'])
      await registration.create(testEntry(name, '/web', { spiffeId: WEB, listeners }));
    expect(await count()).toEqual({ web: 2, 'web-two': 2 });
    expect(await services.countMembers([])).toEqual(new Map());
    await nodes.setBanned(testAgentId('two'), true);
    expect(await count()).toEqual({ web: 1, 'web-two': 1 });
    await nodes.setBanned(testAgentId('two'), false);
  });

  test('delete() tells every agent, once, and find() does not find it then', async () => {
    await set('web');
    expect(await changesOf(datastore, async () => await services.delete('web'))).toEqual(['service web']);
    expect(services.delete('web')).rejects.toMatchObject({ code: 'not_found', reason: 'service_unknown' });
    expect(services.find('web')).rejects.toMatchObject({ reason: 'service_unknown' });
  });

  test('list() goes on page by page', async () => {
    for (const port of [1, 2, 3]) await set(`s${port}`, { addresses: [{ ...ADDRESS, port }] });
    const first = await services.list({ limit: 2 });
    expect(first.items.map(({ name }) => name)).toEqual(['s1', 's2']);
    const rest = await services.list({ cursor: first.nextCursor ?? '' });
    expect([rest.items.map(({ name }) => name), rest.nextCursor]).toEqual([['s3'], undefined]);
  });

  describe('NodePlaces', () => {
    test('set() tells every agent where a host is, and by which addresses it is known, before it attests, too', async () => {
      const later = testAgentId('later');
      expect(await changesOf(datastore, async () => await places.set(later, 'eu/a'))).toEqual([
        `place ${later}`,
      ]);
      await places.set(testAgentId('one'), 'eu/b');
      expect(await readPlaceItems(datastore.db)).toEqual([
        { kind: 'place', key: later, value: { nodeId: later, locality: 'eu/a', addresses: [] } },
        {
          kind: 'place',
          key: testAgentId('one'),
          value: { nodeId: testAgentId('one'), locality: 'eu/b', addresses: ['192.0.2.1'] },
        },
      ]);
      expect(await places.find(later)).toBe('eu/a');
      await places.clear(later);
      expect(places.clear(later)).rejects.toMatchObject({ reason: 'place_unknown' });
    });

    test('addresses that are confirmed or withdrawn later, and a ban, are told with the place', async () => {
      const two = testAgentId('two');
      const addresses = new NodeAddresses(datastore);
      const address = { nodeId: two, address: '192.0.2.22' };
      const isToldOf = (changes: readonly string[]): boolean => changes.includes(`place ${two}`);
      expect(isToldOf(await changesOf(datastore, () => addresses.confirm(address, 'operator')))).toBe(false);
      await places.set(two, 'us');
      expect(isToldOf(await changesOf(datastore, () => addresses.withdraw(address)))).toBe(true);
      expect(isToldOf(await changesOf(datastore, () => nodes.setBanned(two, true)))).toBe(true);
      expect(await readPlaceItems(datastore.db, [two])).toMatchObject([{ value: { addresses: [] } }]);
      await nodes.setBanned(two, false);
    });

    test('set() refuses a place too many, moves what has one, and leaves none of the refused', async () => {
      const rows = Array.from({ length: MAX_PLACES }, (_, i) => ({
        nodeId: testAgentId(`many-${i}`),
        locality: 'eu',
      }));
      await datastore.write(async ({ db }) => {
        await db.delete(placesTable);
        for (let i = 0; i < rows.length; i += 1000)
          await db.insert(placesTable).values(rows.slice(i, i + 1000));
      });
      expect(places.set(testAgentId('one'), 'us')).rejects.toMatchObject({
        code: 'resource_exhausted',
        reason: 'too_many_places',
      });
      await places.set(testAgentId('many-0'), 'us');
      expect(await places.find(testAgentId('one'))).toBeUndefined();
      await datastore.write(async ({ db }) => void (await db.delete(placesTable)));
    });

    test.each([testWorkloadId('/web'), parseSpiffeId('spiffe://elsewhere.org/picket/agent/tpm/one')])(
      'set() refuses %s, which is no host of ours',
      (nodeId) => {
        expect(places.set(nodeId, 'eu')).rejects.toMatchObject({ reason: 'node_invalid' });
      },
    );
  });
});
