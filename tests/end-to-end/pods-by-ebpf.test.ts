import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBpfPlace } from '../kit/bpf-place.ts';
import { run } from '../kit/child.ts';
import { CniNetwork } from '../kit/cni.ts';
import { holdConnection } from '../kit/held-connection.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import { endListener, type TestHost } from '../kit/netns.ts';
import type { TestPod } from '../kit/pods.ts';
import {
  askAt,
  awaitRules,
  backIn,
  frontIn,
  POD_ADDRESSES,
  POD_USER,
  PodsMesh,
  REMOTE,
} from '../kit/pods-mesh.ts';
import { isAlive, lifeOf, type ProcessLife } from '../kit/process-lives.ts';
import { curl } from '../kit/programs.ts';
import { waitUntil } from '../kit/wait.ts';
import { eventsOf } from '../kit/witnesses.ts';
import { askThroughout, expectAnsweredOnce, type AskedWay } from './never-down/asked-throughout.ts';
import { awaitDraining, awaitEnd, statusOf } from './never-down/upgraded.ts';

/**
 * Pods of a host that is captured by eBPF: `desk`, whose pods are in the same cgroup as its own programs, so that the programs of the kernel see what both connect to, and whose traffic two workers carry. The tests follow each other.
 */

setDefaultTimeout(120_000);

const WORKERS = 2;

const prefix = `cni-pk${process.pid}`;
let pods: PodsMesh;
let cni: CniNetwork;
let desk: MeshHost;
let store: MeshHost;
let front: TestPod;
let back: TestPod;

beforeAll(async () => {
  pods = await PodsMesh.open();
  const place = await createBpfPlace(pods.deskHost);
  pods.defer(async () => await place.remove());
  const { host, settings } = place;
  cni = new CniNetwork(pods.network, join(pods.folder, 'cni'));
  front = await makePod({ name: 'front', host });
  back = await makePod({ name: 'back', host });
  await pods.serve(back, 'back');
  const found = { name: 'pods', pattern: `${prefix}-*`, addresses_in: POD_ADDRESSES };
  ({ desk, store } = await pods.join({
    host,
    settings: { capture: { ...settings, namespaces: [found] }, proxy: { workers: WORKERS } },
    workloads: [REMOTE, frontIn('pods'), backIn('pods', back)],
  }));
  await pods.confirm(back.ipv4);
}, 180_000);
afterAll(async () => await pods.close());

/** Its programs are in the cgroup of the host's. */
async function makePod({ name, host }: { readonly name: string; readonly host: TestHost }): Promise<TestPod> {
  const pod = await cni.createPod(`${prefix}-${name}`);
  pods.defer(async () => await pod.remove().catch(() => undefined));
  return { ...pod, in: (...command) => host.in(...pod.in(...command)) };
}

/** The processes of the data path of `desk`. */
async function workerPids(): Promise<readonly number[]> {
  return (await statusOf(desk)).workers.flatMap(({ pid }) => pid ?? []);
}

/** The processes that have the agent's listening socket in a pod open. */
async function pidsListeningIn(pod: TestPod): Promise<readonly number[]> {
  const told = await pod.runOk('ss', '-Hltnp', 'sport = :15001');
  return Array.from(told.matchAll(/pid=(\d+)/g), ([, pid]) => Number(pid));
}

/** The pods that are captured. */
async function captured(): Promise<readonly string[]> {
  const { namespaces } = await statusOf(desk);
  return namespaces.filter(({ state }) => state === 'captured').map(({ name }) => name);
}

/** From pods and to them, on this host and between hosts. */
function allWays(): readonly AskedWay[] {
  return [
    { from: front, address: back.ipv4 },
    { from: front, address: store.host.ipv4 },
    { from: store.host, address: back.ipv4 },
    { from: desk.host, address: back.ipv4 },
  ].map((way) => ({ ...way, uid: POD_USER }));
}

/** Asks all ways while something is done; each is answered, and on record once. */
async function expectNothingLost(name: string, work: () => Promise<void>): Promise<void> {
  const prefix = `/${name}/`;
  const asked = await askThroughout(allWays(), prefix, work);
  const targets = ['spiffe://example.org/invoices', 'spiffe://example.org/back'];
  await expectAnsweredOnce(asked, { control: pods.control, targets, prefix });
}

function setWorkers(workers: number): void {
  const settings = readFileSync(desk.configFile, 'utf8');
  writeFileSync(desk.configFile, settings.replace(/"workers": \d+/, `"workers": ${workers}`));
}

/** Replaces the agent, and does something as soon as the next one has started, to which what replaces it is given. */
async function upgradeMeanwhile(work: (upgrade: Promise<unknown>) => Promise<void>): Promise<void> {
  const { length } = eventsOf(desk.log(), 'agent_successor_started');
  const upgrade = desk.upgrade();
  await waitUntil('the next one is there', () => {
    return eventsOf(desk.log(), 'agent_successor_started').length > length;
  });
  await Promise.all([upgrade, work(upgrade)]);
}

/** Kills the agent after it let its successor serve, and before it hears that it does; the successor. */
async function killWhileReplaced(): Promise<ProcessLife> {
  const { log, pid } = { log: desk.log().length, pid: desk.pid };
  const since = (event: string): readonly string[] => eventsOf(desk.log().slice(log), event);
  const refused = desk.picket(['agent', 'upgrade']);
  // At once: looking every now and then comes too late.
  const isStopped = Promise.withResolvers<undefined>();
  const watcher = watch(desk.logFile, () => {
    if (since('capture_applied').length === 0) return;
    process.kill(pid, 'SIGSTOP');
    isStopped.resolve(undefined);
  });
  expect(await Promise.race([isStopped.promise, refused]).finally(() => watcher.close())).toBeUndefined();
  await waitUntil('the next one serves', () => since('agent_ready').length > 0);
  const [started = '{}'] = since('agent_successor_started');
  const successor = lifeOf(Number((JSON.parse(started) as { readonly pid?: number }).pid));
  process.kill(pid, 'SIGKILL');
  expect((await refused).exitCode).not.toBe(0);
  expect(since('agent_replaced')).toEqual([]);
  return successor;
}

describe('pods of a host that is captured by eBPF, with its traffic in workers', () => {
  test('call other hosts and each other as the workloads that they are, and the host itself as its own', async () => {
    const asks = [
      [front, store.host.ipv4, 'store', 'front'],
      [front, store.host.ipv6, 'store', 'front'],
      [front, back.ipv4, 'back', 'front'],
      [front, back.ipv6, 'back', 'front'],
      // The host's own program, by the programs in the kernel.
      [desk.host, back.ipv4, 'back', 'remote'],
      [desk.host, back.ipv6, 'back', 'remote'],
    ] as const;
    for (const [from, address, at, caller] of asks)
      await waitUntil(`${address} answers`, async () => {
        const { body } = await askAt(from, address);
        return body.includes(`at=${at}`) && body.includes(`URI=spiffe://example.org/${caller}`);
      });
    expect(await desk.picketOk('agent', 'capture', 'show')).toContain('programs pinned in');
    expect(await desk.picketOk('agent', 'status')).toContain('pods 2 captured');
  });

  test('are reached from other hosts', async () => {
    await waitUntil('it answers', async () => {
      return (await askAt(store.host, back.ipv4)).body.includes('URI=spiffe://example.org/remote');
    });
  });

  test('gain nothing at the ports of the agent, neither within nor on the host', async () => {
    for (const port of [15_001, 15_006])
      for (const address of ['127.0.0.1', '10.8.1.1', desk.host.ipv4])
        expect(
          (await curl(front, { uid: POD_USER, args: ['-m', '3', `http://${address}:${port}/`] })).status,
        ).toBe(0);
  });

  test('are served by each worker, whatever becomes of the others', async () => {
    const pids = await workerPids();
    expect(pids).toHaveLength(WORKERS);
    for (const pid of pids) {
      process.kill(pid, 'SIGSTOP');
      // Both ways: the other one takes what comes from the pod, and the way to the other host is its own.
      const { body } = await askAt(front, store.host.ipv4);
      process.kill(pid, 'SIGCONT');
      expect(body).toContain('URI=spiffe://example.org/front');
    }
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    // It waits in the socket that the agent holds.
    const waited = await askAt(front, store.host.ipv4, { seconds: 20 });
    expect(waited.body).toContain('URI=spiffe://example.org/front');
    // The next test counts both among those that stay.
    await waitUntil(
      'both run again',
      async () => (await workerPids()).length === WORKERS && (await desk.isReady()),
    );
  });

  test('are captured again where root in one ends the socket of all workers', async () => {
    await endListener(front, 15_001);
    const all = new Set([desk.pid, ...(await workerPids())]);
    await waitUntil('the workers listen again', async () => {
      return new Set(await pidsListeningIn(front)).isSupersetOf(all);
    });
    await waitUntil('it reaches the other host again', async () => {
      const { body } = await askAt(front, store.host.ipv4, { seconds: 2 });
      return body.includes('URI=spiffe://example.org/front');
    });
  });

  test('come while the workers run, and go', async () => {
    const late = await makePod({ name: 'late', host: desk.host });
    await waitUntil('it reaches the other host', async () => {
      return (await askAt(late, store.host.ipv4)).body.includes('URI=spiffe://example.org/front');
    });
    const pids = await workerPids();
    await late.remove();
    await waitUntil('it is forgotten', async () => {
      return (await desk.picketOk('agent', 'status')).includes('pods 2 captured');
    });
    expect(await workerPids()).toEqual(pids);
    expect((await askAt(front, back.ipv4)).body).toContain('at=back');
  });

  test('lose nothing while the agent is replaced twice, with all its workers; what is open the old ones end', async () => {
    const workersBefore = (await workerPids()).map(lifeOf);
    const before = { log: desk.log().length, pids: [desk.pid, ...workersBefore.map(({ pid }) => pid)] };
    const held = await holdConnection(front, { uid: POD_USER, address: store.host.ipv4, path: '/held' });
    await expectNothingLost('replaced', async () => {
      await desk.upgrade();
      await awaitDraining(desk);
      expect(workersBefore.filter((worker) => !isAlive(worker))).toEqual([]);
      const listening = await waitUntil('the old ones listen no more', async () => {
        const pids = await pidsListeningIn(front);
        return !before.pids.some((pid) => pids.includes(pid)) && pids;
      });
      for (const pid of await workerPids()) expect(listening).toContain(pid);
      expect(await held.finish()).toContain('URI=spiffe://example.org/front');
      await awaitEnd(desk);
      await desk.upgrade();
      await awaitEnd(desk);
    });
    expect(workersBefore.filter(isAlive)).toEqual([]);
    const { workers, missing } = await statusOf(desk);
    expect(missing).toBeUndefined();
    expect(workers.map(({ isReady, restarts }) => ({ isReady, restarts }))).toEqual(
      Array.from({ length: WORKERS }, () => ({ isReady: true, restarts: 0 })),
    );
    const log = desk.log().slice(before.log);
    for (const event of [
      'worker_ended',
      'handover_failed',
      'capture_rules_changed',
      'namespace_not_captured',
    ])
      expect(eventsOf(log, event)).toEqual([]);
    // Not even for a moment is what is registered within left alone.
    const applied = eventsOf(log, 'capture_applied').filter((line) => line.includes(`pods/${back.name}`));
    expect(applied.length).toBeGreaterThan(1);
    for (const line of applied) expect(line).toContain('"local_ports":[80]');
  });

  test('come and go while it is replaced', async () => {
    const leaving = await makePod({ name: 'leaving', host: desk.host });
    await waitUntil('it is reached', async () => (await askAt(leaving, store.host.ipv4)).status === 200);
    const { length } = desk.log();
    await expectNothingLost('coming', async () => {
      await upgradeMeanwhile(async (upgrade) => {
        const [coming] = await Promise.all([makePod({ name: 'coming', host: desk.host }), leaving.remove()]);
        await waitUntil('it reaches the other host', async () => {
          return (await askAt(coming, store.host.ipv4)).body.includes('URI=spiffe://example.org/front');
        });
        // By whichever agent: from now on by each.
        const ways = [{ from: coming, address: store.host.ipv4, uid: POD_USER }];
        const asked = await askThroughout(ways, '/come/', async () => await upgrade);
        expect(asked.filter(({ status }) => status !== 200)).toEqual([]);
      });
      await awaitEnd(desk);
    });
    expect(eventsOf(desk.log().slice(length), 'namespace_not_captured')).toEqual([]);
    await waitUntil('it is forgotten', async () => !(await captured()).includes(`pods/${prefix}-leaving`));
    expect([...(await captured())].toSorted()).toEqual(
      ['back', 'coming', 'front'].map((name) => `pods/${prefix}-${name}`),
    );
  });

  test('lose nothing with more workers in the next agent, none, and two again', async () => {
    for (const workers of [3, 1, WORKERS]) {
      setWorkers(workers);
      await expectNothingLost(`to-${workers}`, async () => {
        await desk.upgrade();
        await awaitEnd(desk);
        await waitUntil('all run', async () => await desk.isReady());
      });
      expect(await workerPids()).toHaveLength(workers === 1 ? 0 : workers);
    }
  });

  test('are cut in the old workers by a quarantine', async () => {
    const held = await holdConnection(front, { uid: POD_USER, address: store.host.ipv4, path: '/cut' });
    await desk.upgrade();
    await awaitDraining(desk);
    await pods.control.picketOk('quarantine', 'add', 'spiffe://example.org/front', '--reason', 'a drill');
    await awaitEnd(desk);
    expect(await held.finish()).not.toContain('URI=');
    // The new ones hear of it by themselves.
    await waitUntil('nobody lets it', async () => (await askAt(front, store.host.ipv4)).status !== 200);
    await pods.control.picketOk('quarantine', 'lift', 'spiffe://example.org/front');
    await waitUntil('it may again', async () => (await askAt(front, store.host.ipv4)).status === 200);
  });

  test('go on as before where the next agent fails', async () => {
    const pids = await workerPids();
    // The settings are good; a worker of the new agent cannot write its records.
    const lane = join(desk.folder, 'data/audit/lane-2');
    rmSync(lane, { recursive: true, force: true });
    writeFileSync(lane, 'not a folder');
    setWorkers(WORKERS + 1);
    await expectNothingLost('failed', async () => {
      const refused = await desk.picket(['agent', 'upgrade']);
      expect(refused.stderr).toContain('did not take over: The workers of the data path cannot start');
    });
    rmSync(lane);
    setWorkers(WORKERS);
    expect(await workerPids()).toEqual(pids);
    await back.runOk('nft', 'flush', 'ruleset');
    await awaitRules(back);
  });

  test('are served by no agent whose predecessor died before it gave way', async () => {
    const successor = await killWhileReplaced();
    await waitUntil('it says so', () => eventsOf(desk.log(), 'agent_predecessor_lost').length === 1);
    await waitUntil('nobody listens', async () => {
      return (await desk.host.runOk('ss', '-Hltnp', 'sport = :15008')) === '';
    });
    expect((await askAt(front, store.host.ipv4)).status).toBe(0);
    // What it had open is closed before it has ended.
    await waitUntil('it has ended', () => !isAlive(successor));
    await desk.stop('SIGKILL');
    await desk.start();
    await waitUntil('it passes again', async () => (await askAt(front, back.ipv4)).status === 200);
  });

  test('are closed where the rules within are gone, and with the agent dead', async () => {
    const flush = 'for i in $(seq 40); do nft flush ruleset; done';
    const flushing = run(front.in('sh', '-c', flush), { cwd: '/' });
    const bodies: string[] = [];
    for (let times = 0; times < 5; times++) bodies.push((await askAt(front, store.host.ipv4)).body);
    await flushing;
    const others = bodies.filter((body) => body !== '' && !body.includes('URI=spiffe://example.org/front'));
    expect(others).toEqual([]);
    await desk.stop('SIGKILL');
    await front.runOk('nft', 'flush', 'ruleset');
    const asked = await Promise.all([
      askAt(front, store.host.ipv4),
      askAt(front, back.ipv4),
      askAt(store.host, back.ipv4),
    ]);
    expect(asked.map(({ status }) => status)).toEqual([0, 0, 0]);
    await desk.start();
    await waitUntil('it passes again', async () => (await askAt(front, back.ipv4)).status === 200);
  });
});
