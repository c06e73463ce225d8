import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage } from '../../../shared/protocol/operator.ts';
import { decisionsBelow } from '../../kit/access-records.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { isAlive, lifeOf, type ProcessLife } from '../../kit/process-lives.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import type { TrafficMesh } from '../traffic/traffic-mesh.ts';
import { ConstantLoad, expectNothingLost, HTTP_PORT, openLoadedMesh } from './constant-load.ts';
import { awaitDraining, awaitEnd, statusOf } from './upgraded.ts';

/** The data path in two processes on each host, and the agent replaced with them. */

setDefaultTimeout(180_000);

const WORKERS = 2;
/** Longer than any load. */
const DRAIN_SECONDS = 120;
const WEB = 'spiffe://example.org/web';
const DATABASE = 'spiffe://example.org/database';

let traffic: TrafficMesh;

beforeAll(async () => {
  const settings = { proxy: { workers: WORKERS }, upgrade: { drain_seconds: DRAIN_SECONDS } };
  traffic = await openLoadedMesh({ settings });
}, 180_000);
afterAll(async () => await traffic?.close());

function hosts(): readonly MeshHost[] {
  return [traffic.store, traffic.desk];
}

async function pidsOf(host: MeshHost): Promise<readonly number[]> {
  return (await statusOf(host)).workers.flatMap(({ pid }) => pid ?? []);
}

async function workersOf(host: MeshHost): Promise<readonly ProcessLife[]> {
  return (await pidsOf(host)).map(lifeOf);
}

function setWorkers(host: MeshHost, workers: number): void {
  const settings = readFileSync(host.configFile, 'utf8');
  writeFileSync(host.configFile, settings.replace(/"workers": \d+/, `"workers": ${workers}`));
}

/** Asks without pause while something is done, each request with a path of its own; the paths. */
async function askDuring(name: string, work: () => Promise<unknown>): Promise<readonly string[]> {
  const paths: string[] = [];
  const ask = async (): Promise<void> => {
    const path = `/recorded/${name}/${paths.length}`;
    paths.push(path);
    const url = `http://${traffic.store.host.ipv4}:${HTTP_PORT}${path}`;
    const { exitCode } = await traffic.asCaller(['curl', '-sf', '-m', '10', url]);
    expect({ path, exitCode }).toEqual({ path, exitCode: 0 });
  };
  const isDone = new AbortController();
  const working = work().finally(() => isDone.abort());
  while (!isDone.signal.aborted) await ask();
  await working;
  for (let i = 0; i < 10; i++) await ask();
  return paths;
}

describe('under constant load nothing is lost', () => {
  test('while the agents of both hosts are replaced with their workers, and every request is on record once', async () => {
    const before = (await Promise.all(hosts().map(workersOf))).flat();
    const paths = await askDuring('once', async () => {
      const load = await ConstantLoad.during(traffic, async () => {
        await Promise.all(hosts().map(async (host) => void (await host.upgrade())));
        // Connections of PostgreSQL and the lines stay where they are, in the old workers.
        for (const host of hosts()) await awaitDraining(host);
        expect(before.filter((worker) => !isAlive(worker))).toEqual([]);
      });
      expectNothingLost(load);
      // The clients of HTTP were told to come again.
      expect(load.kept.ages.length).toBeGreaterThan(0);
    });
    for (const host of hosts()) {
      await awaitEnd(host);
      const { workers, missing, capture } = await statusOf(host);
      expect({ missing, isIntact: capture.isIntact }).toEqual({ missing: undefined, isIntact: true });
      expect(workers.map(({ isReady, restarts }) => ({ isReady, restarts }))).toEqual(
        Array.from({ length: WORKERS }, () => ({ isReady: true, restarts: 0 })),
      );
      for (const event of ['worker_ended', 'worker_silent', 'workers_not_chosen', 'handover_failed'])
        expect(eventsOf(host.log(), event)).toEqual([]);
    }
    expect(before.filter(isAlive)).toEqual([]);
    await expectRecordedOnce('once', paths);
  });

  test('while there are more workers in the new agent, none, and two again', async () => {
    for (const workers of [3, 1, WORKERS]) {
      for (const host of hosts()) setWorkers(host, workers);
      const load = await ConstantLoad.during(traffic, async () => {
        await Promise.all(hosts().map(async (host) => void (await host.upgrade())));
        await waitUntil('all run', async () =>
          (await Promise.all(hosts().map(async (host) => await host.isReady()))).every(Boolean),
        );
      });
      expectNothingLost(load);
      for (const host of hosts()) {
        await awaitEnd(host);
        expect(await pidsOf(host)).toHaveLength(workers === 1 ? 0 : workers);
      }
    }
    await waitUntil('no lane is left but of those there are', () =>
      hosts().every((host) => !existsSync(join(host.folder, 'data/audit/lane-2'))),
    );
  });
});

describe('an agent of which a worker dies while it is replaced', () => {
  test('is replaced all the same, and what the other decides is on record once', async () => {
    const { store } = traffic;
    const [, idle = 0] = await idleLast(store);
    const { length } = eventsOf(store.log(), 'agent_replaced');
    const paths = await askDuring('died', async () => {
      const upgrade = store.upgrade();
      await waitUntil(
        'the successor is there',
        () => eventsOf(store.log(), 'agent_successor_started').length > length,
      );
      process.kill(idle, 'SIGKILL');
      await upgrade;
      await awaitEnd(store);
    });
    await expectRecordedOnce('died', paths);
    expect((await statusOf(store)).workers.every(({ isReady }) => isReady)).toBe(true);
  });
});

describe('an agent that was replaced', () => {
  test('still cuts what loses its permit in its workers, and says why', async () => {
    const { desk, mesh } = traffic;
    const load = await ConstantLoad.start(traffic);
    await desk.upgrade();
    await awaitDraining(desk);
    await mesh.control.picketOk('quarantine', 'add', DATABASE, '--reason', 'a drill');
    await waitUntil('the cut is on record', async () => {
      const filter = ['--target', DATABASE, '--decision', 'deny'];
      const { items } = await mesh.control.picketJson(accessPage, 'audit', 'access', ...filter);
      return items.some(({ reason, direction }) => reason === 'quarantined' && direction === 'outbound');
    });
    await mesh.control.picketOk('quarantine', 'lift', DATABASE);
    const { psql, single, kept } = await load.end();
    expect(psql.complaints).not.toBe('');
    expect([single.failed, kept.failed]).toEqual([0, 0]);
    await awaitEnd(desk);
  });

  test('dies with its workers, and leaves nothing undone', async () => {
    const { store } = traffic;
    const agent = lifeOf(store.pid);
    const old = [agent, ...(await workersOf(store))];
    const load = await ConstantLoad.start(traffic);
    const { pid } = await store.upgrade();
    await awaitDraining(store);
    process.kill(agent.pid, 'SIGKILL');
    await waitUntil('all have ended', () => !old.some(isAlive));
    expect(store.pid).toBe(pid);
    const paths = await askDuring('alone', async () => await awaitEnd(store));
    await load.end();
    await expectRecordedOnce('alone', paths);
    const leftOver = join(store.folder, 'data/audit-replaced');
    await waitUntil('what they left was shipped', () => readdirSync(leftOver).length === 0, 90_000);
  });
});

describe('an agent that cannot be replaced', () => {
  test('goes on with its workers as it was, and can be replaced later', async () => {
    const { store } = traffic;
    const before = { pid: store.pid, workers: await pidsOf(store) };
    // The settings are good; a worker of the new agent cannot write its records.
    setWorkers(store, 3);
    const lane = join(store.folder, 'data/audit/lane-2');
    rmSync(lane, { recursive: true, force: true });
    writeFileSync(lane, 'not a folder');
    const load = await ConstantLoad.during(traffic, async () => {
      const refused = await store.picket(['agent', 'upgrade']);
      expect(refused.exitCode).not.toBe(0);
      expect(refused.stderr).toContain('did not take over: The workers of the data path cannot start');
    });
    expectNothingLost(load);
    expect({ pid: store.pid, workers: await pidsOf(store) }).toEqual(before);
    const { capture, missing } = await statusOf(store);
    expect({ missing, isIntact: capture.isIntact }).toEqual({ missing: undefined, isIntact: true });
    // What has not ended at once keeps a spool from going back: that is told, and it is asked again.
    const told = eventsOf(store.log(), 'handover_failed');
    rmSync(lane);
    mkdirSync(lane);
    setWorkers(store, WORKERS);
    const paths = await askDuring('later', async () => {
      await store.upgrade();
      await awaitEnd(store);
    });
    await expectRecordedOnce('later', paths, told);
  });
});

/** The pids of a host's workers, that which has decided least at the end. */
async function idleLast(host: MeshHost): Promise<readonly number[]> {
  const decisions = await Promise.all(
    (await statusOf(host)).workers.map(async ({ pid }, worker) => ({
      pid: pid ?? 0,
      count: (await host.metric(`picket_worker_decisions{worker="${worker}"}`)) ?? 0,
    })),
  );
  return decisions.toSorted((a, b) => b.count - a.count).map(({ pid }) => pid);
}

/** `failures`: what was told of a handover that came to nothing. */
async function expectRecordedOnce(
  name: string,
  paths: readonly string[],
  failures: readonly string[] = [],
): Promise<void> {
  const { control } = traffic.mesh;
  const records = await waitUntil('all is recorded', async () => {
    const found = await decisionsBelow(control, WEB, `/recorded/${name}/`);
    return found.length >= paths.length ? found : undefined;
  });
  expect(records.map(({ path }) => path ?? '').toSorted()).toEqual(paths.toSorted());
  const logs = [...hosts(), control].map((each) => each.log()).join('\n');
  for (const event of ['audit_gap', 'audit_segment_damaged', 'audit_records_missing'])
    expect(eventsOf(logs, event)).toEqual([]);
  expect(eventsOf(logs, 'handover_failed')).toEqual([...failures]);
}
