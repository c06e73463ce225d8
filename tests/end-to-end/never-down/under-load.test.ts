import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage, entryPage } from '../../../shared/protocol/operator.ts';
import { decisionsBelow } from '../../kit/access-records.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import type { TrafficMesh } from '../traffic/traffic-mesh.ts';
import { ConstantLoad, countSeen, expectNothingLost, HTTP_PORT, openLoadedMesh } from './constant-load.ts';
import { awaitDraining, awaitEnd, statusOf } from './upgraded.ts';

/** What an operator does to a mesh that carries traffic, with HTTP/1.1, gRPC, lines of text and PostgreSQL under way: not one request fails. */

setDefaultTimeout(180_000);

const POLICY = join(import.meta.dirname, '../../kit/policies/traffic');
const DRAIN_SECONDS = 120;
let traffic: TrafficMesh;

beforeAll(async () => {
  traffic = await openLoadedMesh({ settings: { upgrade: { drain_seconds: DRAIN_SECONDS } } });
}, 180_000);
afterAll(async () => await traffic?.close());

describe('under constant load nothing is lost', () => {
  test('while certificates are replaced', async () => {
    const countIssued = (): number =>
      [traffic.store, traffic.desk].reduce(
        (sum, host) => sum + eventsOf(host.log(), 'svid_issued').length,
        0,
      );
    const { items } = await traffic.mesh.control.picketJson(entryPage, 'entry', 'list');
    const load = await ConstantLoad.during(traffic, async () => {
      for (const round of [1, 2, 3]) {
        const before = countIssued();
        for (const { entryId } of items)
          await traffic.mesh.control.picketOk('entry', 'update', entryId, '--hint', `round-${round}`);
        await waitUntil('all have new ones', () => countIssued() >= before + items.length);
      }
    });
    expectNothingLost(load);
  });

  test('while policies are published', async () => {
    const load = await ConstantLoad.during(traffic, async () => {
      for (const round of [1, 2, 3]) {
        await traffic.mesh.control.picketOk('policy', 'publish', POLICY, '-m', `round ${round}`);
        const version = (await statusOf(traffic.store)).policy?.version ?? 0;
        await waitUntil('both hosts have it', async () => {
          const policies = [await statusOf(traffic.store), await statusOf(traffic.desk)].map(
            ({ policy }) => policy,
          );
          return policies.every((policy) => (policy?.version ?? 0) >= version);
        });
      }
    });
    expectNothingLost(load);
  });

  test.each(['desk', 'store'] as const)('while the agent of %s is replaced', async (name) => {
    const host = traffic[name];
    const before = host.pid;
    const load = await ConstantLoad.during(traffic, async () => {
      const upgraded = await host.upgrade();
      expect(upgraded.pid).not.toBe(before);
      expect(upgraded.drainMs).toBe(DRAIN_SECONDS * 1000);
      // The connections of PostgreSQL and the lines stay where they are.
      await awaitDraining(host);
      expect((await host.picket(['agent', 'status'])).stdout).toContain('replaced:');
      expect(await host.metric('picket_predecessor_connections')).toBeGreaterThan(0);
    });
    expectNothingLost(load);
    // The clients of HTTP were told to come again.
    expect(load.kept.ages.length).toBeGreaterThan(0);
    await awaitEnd(host);
    expect(eventsOf(host.log(), 'agent_drained')).toHaveLength(1);
  });

  test('every request is on record once, whichever process decided it, and no record is missing', async () => {
    const { store, mesh } = traffic;
    const paths: string[] = [];
    const ask = async (): Promise<void> => {
      const path = `/recorded/${paths.length}`;
      paths.push(path);
      const url = `http://${store.host.ipv4}:${HTTP_PORT}${path}`;
      expect((await traffic.asCaller(['curl', '-sf', '-m', '10', url])).exitCode).toBe(0);
    };
    const isUpgraded = new AbortController();
    const upgrade = store.upgrade().finally(() => isUpgraded.abort());
    while (!isUpgraded.signal.aborted) await ask();
    await upgrade;
    for (let i = 0; i < 10; i++) await ask();
    await awaitEnd(store);
    const read = async () => await decisionsBelow(mesh.control, 'spiffe://example.org/web', '/recorded/');
    const found = await waitUntil('all is recorded', async () => {
      const records = await read();
      return records.length >= paths.length ? records : undefined;
    });
    expect(found.map(({ path }) => path ?? '').toSorted()).toEqual(paths.toSorted());
    const logs = [store, traffic.desk, mesh.control].map((each) => each.log()).join('\n');
    for (const event of ['audit_gap', 'audit_segment_damaged', 'audit_records_missing', 'handover_failed'])
      expect(eventsOf(logs, event)).toEqual([]);
  });
});

describe('an agent that was replaced', () => {
  test('still cuts what loses its permit, and says why', async () => {
    const { desk, mesh } = traffic;
    const load = await ConstantLoad.start(traffic);
    await desk.upgrade();
    await awaitDraining(desk);
    await mesh.control.picketOk('quarantine', 'add', 'spiffe://example.org/database', '--reason', 'a drill');
    await awaitDenied('spiffe://example.org/database');
    await mesh.control.picketOk('quarantine', 'lift', 'spiffe://example.org/database');
    const { psql, single } = await load.end();
    expect(psql.complaints).not.toBe('');
    expect(single.failed).toBe(0);
    await awaitEnd(desk);
  });

  test('is not replaced twice at a time', async () => {
    const { desk } = traffic;
    const load = await ConstantLoad.start(traffic);
    await desk.upgrade();
    await awaitDraining(desk);
    const again = await desk.picket(['agent', 'upgrade', '--json']);
    expect(again.stderr).toContain('upgrade_under_way');
    await load.end();
    await awaitEnd(desk);
  });
});

describe('an agent that cannot be replaced', () => {
  test('goes on as it was, says why, and can be replaced later', async () => {
    const { store } = traffic;
    const good = readFileSync(store.configFile, 'utf8');
    const { pid } = store;
    const load = await ConstantLoad.during(traffic, async () => {
      writeFileSync(store.configFile, good.replace('"trust_domain"', '"trust_domains"'));
      const refused = await store.picket(['agent', 'upgrade']);
      expect(refused.exitCode).not.toBe(0);
      expect(refused.stderr).toContain('trust_domain');
      // Too late for an early error: the state is in its hands already.
      writeFileSync(store.configFile, good.replace(/"data_dir": "[^"]*"/, '"data_dir": "/proc/nowhere"'));
      expect((await store.picket(['agent', 'upgrade'])).exitCode).not.toBe(0);
      writeFileSync(store.configFile, good);
    });
    expectNothingLost(load);
    expect(store.pid).toBe(pid);
    expect((await statusOf(store)).capture.isIntact).toBe(true);
    expect(await store.isReady()).toBe(true);
    expectNothingLost(await ConstantLoad.during(traffic, async () => void (await store.upgrade())));
    await awaitEnd(store);
  });

  test('is not replaced for anybody but root', async () => {
    const { desk } = traffic;
    const { pid } = desk;
    const refused = await desk.picket(['agent', 'upgrade', '--json'], { uid: 7999 });
    expect(refused.stderr).toContain('permission_denied');
    expect((await statusOf(desk)).predecessor).toBeUndefined();
    expect(desk.pid).toBe(pid);
  });

  test('no process takes over that no agent started', async () => {
    const { desk } = traffic;
    const { exitCode, stderr } = await desk.picket([
      'agent',
      'run',
      '--take-over',
      '--config',
      desk.configFile,
    ]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain('no agent started this process');
    expect(countSeen(traffic, '/nothing')).toBe(0);
  });
});

/** Waits until a denial by the old or new agent of `desk` is on record. */
async function awaitDenied(target: string): Promise<void> {
  await waitUntil('the cut is on record', async () => {
    const filter = ['--target', target, '--decision', 'deny'];
    const { items } = await traffic.mesh.control.picketJson(accessPage, 'audit', 'access', ...filter);
    return items.some(({ reason, direction }) => reason === 'quarantined' && direction === 'outbound');
  });
}
