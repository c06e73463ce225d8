import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { changesOf } from '../../tests/kit/change-recorder.ts';
import { DATASTORES, silentLog, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testAttestation, testEntry } from '../../tests/kit/mesh-data.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { readDirectory } from '../directory/directory.ts';
import { Registration } from '../registration/registration.ts';
import { NodeAddresses } from './node-addresses.ts';
import { Nodes } from './nodes.ts';

describe.each(DATASTORES)('Nodes and NodeAddresses (%s)', (_name, open) => {
  let kept: TestDatastore;
  let datastore: Datastore;
  let nodes: Nodes;
  let addresses: NodeAddresses;
  let registration: Registration;
  const clock = new FakeClock();
  beforeAll(async () => {
    kept = await open();
    datastore = kept.datastore;
    nodes = new Nodes({ datastore, clock, log: silentLog });
    addresses = new NodeAddresses(datastore);
    registration = new Registration({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
  });
  afterAll(() => kept.dispose());

  const statesOf = async (host: string) =>
    (await addresses.list(testAgentId(host))).map(
      ({ address, state, proof }) => `${address} ${state} ${proof}`,
    );

  test('recordAttestation() keeps the node; claims are pending, declared addresses confirmed', async () => {
    const node = await nodes.recordAttestation(
      testAttestation('first', {
        agentVersion: '1\0.2',
        declaredAddresses: ['192.0.2.10'],
        claimedAddresses: ['127.0.0.1', 'fe80::1', '192.0.2.10', '192.0.2.11', '2001:DB8::B'],
      }),
    );
    expect(await nodes.find(testAgentId('first'))).toEqual(node);
    expect(node).toMatchObject({ isBanned: false, certSerial: '01', agentVersion: '1.2', status: null });
    expect(await statesOf('first')).toEqual([
      '192.0.2.10 confirmed operator',
      '192.0.2.11 pending none',
      '2001:db8::b pending none',
    ]);
  });

  test('recordAttestation() lets a TPM host attest again and a join token’s host only after eviction', async () => {
    await nodes.recordAttestation(testAttestation('again'));
    const certificate = { serial: '02', notAfterMs: clock.nowMs() };
    expect(await nodes.recordAttestation(testAttestation('again', { certificate }))).toMatchObject({
      certSerial: '02',
      previousCertSerial: null,
    });
    const once = testAttestation('once', { canReattest: false });
    await nodes.recordAttestation(once);
    expect(nodes.recordAttestation(once)).rejects.toMatchObject({
      code: 'permission_denied',
      reason: 'node_exists',
    });
    await nodes.evict(once.nodeId);
    await nodes.recordAttestation(once);
  });

  test('recordAttestation() gives a name that may not attest again to exactly one of a race', async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 6 }, () =>
        nodes.recordAttestation(testAttestation('race', { canReattest: false })),
      ),
    );
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
  });

  test('authenticate() takes the current and the previous certificate, recordRenewal() moves on', async () => {
    const nodeId = testAgentId('renewing');
    await nodes.recordAttestation(testAttestation('renewing'));
    const renew = (presentedSerial: string, serial: string) =>
      nodes.recordRenewal({
        nodeId,
        presentedSerial,
        certificate: { serial, notAfterMs: clock.nowMs() + 1 },
      });
    await renew('01', '02');
    await nodes.authenticate(nodeId, '01');
    await nodes.authenticate(nodeId, '02');
    // The answer was lost: the agent asks again with the old one.
    await renew('01', '03');
    expect(nodes.authenticate(nodeId, '02')).rejects.toMatchObject({ reason: 'certificate_superseded' });
    await renew('03', '04');
    expect(renew('01', '05')).rejects.toMatchObject({
      code: 'permission_denied',
      reason: 'certificate_superseded',
    });
    expect(nodes.authenticate(nodeId, '01')).rejects.toMatchObject({ reason: 'certificate_superseded' });
    expect(await nodes.find(nodeId)).toMatchObject({ certSerial: '04', previousCertSerial: '03' });
    expect(nodes.authenticate(testAgentId('stranger'), '01')).rejects.toMatchObject({
      reason: 'node_unknown',
    });
  });

  test('setBanned() shuts a node out and its listeners off the directory, until it is lifted', async () => {
    const nodeId = testAgentId('banned');
    await nodes.recordAttestation(testAttestation('banned', { declaredAddresses: ['192.0.2.20'] }));
    await registration.create(
      testEntry('banned', '/banned', { listeners: [{ port: 80, protocol: 'auto' }] }),
    );
    const key = 'directory default|192.0.2.20|80|spiffe://example.org/banned';
    const inDirectory = async () =>
      (await readDirectory(datastore.db)).records.filter((record) => record.address === '192.0.2.20').length;
    expect(await inDirectory()).toBe(1);
    const noted = await changesOf(datastore, () => nodes.setBanned(nodeId, true));
    expect(noted.toSorted()).toEqual([key, `node ${nodeId} for ${nodeId}`].toSorted());
    expect(await inDirectory()).toBe(0);
    expect(nodes.authenticate(nodeId, '01')).rejects.toMatchObject({ reason: 'node_banned' });
    expect(nodes.recordAttestation(testAttestation('banned'))).rejects.toMatchObject({
      reason: 'node_banned',
    });
    await nodes.setBanned(nodeId, false);
    await nodes.authenticate(nodeId, '01');
    expect(await inDirectory()).toBe(1);
    const evicted = await changesOf(datastore, () => nodes.evict(nodeId));
    expect(evicted.toSorted()).toEqual([key, `node ${nodeId} for ${nodeId}`].toSorted());
    expect(await statesOf('banned')).toEqual([]);
    expect(nodes.setBanned(nodeId, true)).rejects.toMatchObject({ code: 'not_found' });
    expect(nodes.evict(nodeId)).rejects.toMatchObject({ code: 'not_found' });
  });

  test('recordStatus() replaces the claims that wait and leaves confirmed addresses', async () => {
    const nodeId = testAgentId('status');
    await nodes.recordAttestation(
      testAttestation('status', { declaredAddresses: ['192.0.2.30'], claimedAddresses: ['192.0.2.31'] }),
    );
    const status = {
      agentVersion: '2\0',
      cursor: 7,
      policySequence: 1,
      addresses: ['192.0.2.32'],
      listening: [],
    };
    clock.advance(1000);
    await nodes.recordStatus(nodeId, status);
    expect(await statesOf('status')).toEqual(['192.0.2.30 confirmed operator', '192.0.2.32 pending none']);
    const node = await nodes.find(nodeId);
    expect(node?.status).toEqual({ ...status, agentVersion: '2' });
    expect(node?.lastSeenAt.getTime()).toBe(clock.nowMs());
    await nodes.recordStatus(nodeId, { ...status, addresses: [] });
    expect(await statesOf('status')).toEqual(['192.0.2.30 confirmed operator']);
    expect(nodes.recordStatus(testAgentId('nobody'), status)).rejects.toMatchObject({ code: 'not_found' });
  });

  test('confirm() gives an address to one node at a time and notes its directory records', async () => {
    const [one, two] = [testAgentId('addr-1'), testAgentId('addr-2')];
    await nodes.recordAttestation(testAttestation('addr-1', { claimedAddresses: ['192.0.2.40'] }));
    await nodes.recordAttestation(testAttestation('addr-2'));
    await registration.create(testEntry('addr-1', '/addr', { listeners: [{ port: 80, protocol: 'tcp' }] }));
    const key = 'directory default|192.0.2.40|80|spiffe://example.org/addr';
    const address = '192.0.2.40';
    expect(await changesOf(datastore, () => addresses.confirm({ nodeId: one, address }, 'reached'))).toEqual([
      key,
    ]);
    expect(await statesOf('addr-1')).toEqual(['192.0.2.40 confirmed reached']);
    expect(addresses.confirm({ nodeId: two, address }, 'operator')).rejects.toMatchObject({
      code: 'already_exists',
      reason: 'address_taken',
    });
    await addresses.confirm({ nodeId: two, address, network: 'other' }, 'operator');
    expect(await changesOf(datastore, () => addresses.withdraw({ nodeId: one, address }))).toEqual([key]);
    expect(await addresses.withdraw({ nodeId: one, address })).toBe(false);
    await addresses.confirm({ nodeId: two, address }, 'operator');
  });

  test('an address that a declared host cannot have stays with its node', async () => {
    await nodes.recordAttestation(testAttestation('holder', { declaredAddresses: ['192.0.2.50'] }));
    await nodes.recordAttestation(
      testAttestation('taker', { declaredAddresses: ['192.0.2.50', '192.0.2.51'] }),
    );
    expect(await statesOf('holder')).toEqual(['192.0.2.50 confirmed operator']);
    expect(await statesOf('taker')).toEqual(['192.0.2.51 confirmed operator']);
  });

  test('confirm() refuses strangers and addresses that are no host’s own', async () => {
    const nodeId = testAgentId('first');
    const confirm = (change: object) =>
      addresses.confirm({ nodeId, address: '192.0.2.60', ...change }, 'operator');
    expect(confirm({ nodeId: testAgentId('nobody') })).rejects.toMatchObject({ reason: 'node_unknown' });
    for (const address of ['127.0.0.1', '::', 'fe80::1', '224.0.0.1', 'x'])
      expect(confirm({ address })).rejects.toMatchObject({ reason: 'address_invalid' });
    for (const network of ['', 'a|b', 'A', 'x'.repeat(64)])
      expect(confirm({ network })).rejects.toMatchObject({ reason: 'network_invalid' });
  });

  test('a new listener and a new address that meet in two transactions are noted', async () => {
    const hosts = Array.from({ length: 10 }, (_, i) => `meet-${i}`);
    for (const host of hosts) await nodes.recordAttestation(testAttestation(host));
    const noted = await changesOf(datastore, () =>
      Promise.all(
        hosts.flatMap((host, i) => [
          registration.create(testEntry(host, `/${host}`, { listeners: [{ port: 80, protocol: 'tcp' }] })),
          addresses.confirm({ nodeId: testAgentId(host), address: `198.51.100.${i + 1}` }, 'operator'),
        ]),
      ),
    );
    expect(noted.filter((change) => change.startsWith('directory')).toSorted()).toEqual(
      hosts
        .map((host, i) => `directory default|198.51.100.${i + 1}|80|spiffe://example.org/${host}`)
        .toSorted(),
    );
  });

  test('list() pages and filters', async () => {
    await nodes.setBanned(testAgentId('meet-0'), true);
    expect((await nodes.list({ isBanned: true })).nodes.map((node) => node.nodeId)).toEqual([
      testAgentId('meet-0'),
    ]);
    expect((await nodes.list({ attestationType: 'join_token' })).nodes).toEqual([]);
    const all = (await nodes.list()).nodes;
    const first = await nodes.list({ limit: 4 });
    const rest = await nodes.list({ cursor: first.nextCursor ?? '' });
    expect([...first.nodes, ...rest.nodes]).toEqual([...all]);
    expect(rest.nextCursor).toBeUndefined();
  });
});
