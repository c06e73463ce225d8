import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { decisionsBelow, type AccessRecordShown } from '../../kit/access-records.ts';
import { Child, run } from '../../kit/child.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { python, pythonService, TrafficMesh } from '../traffic/traffic-mesh.ts';

/** An agent is killed, on either side, at every stage of a connection: nothing passes as it is or undecided, the other side says so, and the record is whole. */

setDefaultTimeout(120_000);

const PORT = 8085;
const PROGRAMS = '../../bad-days/programs';

/** How far the connection has come. */
interface Stage {
  readonly name: string;
  readonly sends: 'get' | 'body' | 'idle';
  /** Of the request. */
  readonly path: string;
  /** Whether the application has heard of it. */
  readonly isForwarded: boolean;
  /** Holds the connection at its stage; undefined: it gets there by itself. */
  readonly holds?: 'desk' | 'store';
  /** Whether there is a connection between the agents already. */
  readonly isPooled: boolean;
}

const STAGES: readonly Stage[] = [
  {
    name: 'captured but not accepted',
    sends: 'get',
    path: '/held/captured',
    isForwarded: false,
    holds: 'desk',
    isPooled: false,
  },
  {
    name: 'in the handshake between the agents',
    sends: 'get',
    path: '/held/handshake',
    isForwarded: false,
    holds: 'store',
    isPooled: false,
  },
  {
    name: 'asked for and not answered by the other agent',
    sends: 'get',
    path: '/held/opening',
    isForwarded: false,
    holds: 'store',
    isPooled: true,
  },
  {
    name: 'waiting for its first answer',
    sends: 'get',
    path: '/held/asked',
    isForwarded: true,
    isPooled: true,
  },
  { name: 'in the middle of a body', sends: 'body', path: '/body', isForwarded: true, isPooled: true },
  { name: 'kept and idle', sends: 'idle', path: '/idle', isForwarded: true, isPooled: true },
];

let traffic: TrafficMesh;
let wires: readonly Child[];

beforeAll(async () => {
  const web = pythonService({
    path: '/web',
    uid: 7311,
    listen: [String(PORT)],
    program: `${PROGRAMS}/held-application.py`,
    args: [String(PORT)],
  });
  traffic = await TrafficMesh.open({ services: [web], isOpen: async (open) => await passes(open, '/open') });
  wires = [traffic.store, traffic.desk].map(watchWire);
  await waitUntil('the wires are watched', () => wires.every((wire) => wire.log().includes('listening on')));
}, 120_000);

afterAll(async () => {
  for (const wire of wires ?? []) await wire.stop();
  await traffic?.close();
});

/** Prints every packet between the two hosts with content to or from the application's port: between hosts there is none but through the mesh. */
function watchWire({ host, name }: MeshHost): Child {
  const content = `tcp port ${PORT} and host ${traffic.store.host.ipv4} and host ${traffic.desk.host.ipv4} and (tcp[tcpflags] & tcp-push != 0)`;
  return new Child({
    command: host.in('tcpdump', '--immediate-mode', '-lnn', '-i', 'eth0', content),
    logFile: join(traffic.folder, `wire-${name}.log`),
  });
}

/** Whether a request of /caller is answered. */
async function passes(open: TrafficMesh, path: string): Promise<boolean> {
  const url = `http://${open.store.host.ipv4}:${PORT}${path}`;
  return (await open.asCaller(['curl', '-sf', '-m', '5', url])).exitCode === 0;
}

/** How often the application has seen a path. */
function countSeen(path: string): number {
  return traffic
    .service('/web')
    .log()
    .split('\n')
    .filter((line) => line === `seen ${path}`).length;
}

async function socketsOn({ host }: MeshHost, ...filter: readonly string[]): Promise<string> {
  return await host.runOk('ss', '-Htn', 'state', 'established', ...filter);
}

/** Whether the connection has come to its stage. */
async function isReached(stage: Stage, path: string, client: Child): Promise<boolean> {
  const { store, desk } = traffic;
  if (stage.sends === 'idle') return client.log().includes('ok');
  if (stage.sends === 'body') return traffic.service('/web').log().includes(`body ${path}\n`);
  if (stage.isForwarded) return countSeen(path) === 1;
  if (stage.holds === 'desk') return (await socketsOn(desk, 'dport', '=', `:${PORT}`)) !== '';
  // The agent is stopped, and does not read what it was sent.
  return /^[1-9]/m.test((await socketsOn(store, 'sport', '=', ':15008')).trimStart());
}

/** Brings a connection to its stage, on hosts that are well. */
async function begin(stage: Stage, path: string): Promise<Child> {
  const { desk, store } = traffic;
  if (!stage.isPooled) {
    await desk.stop();
    await desk.start();
  }
  await waitUntil(
    'requests pass',
    async () => stage.holds === 'desk' || !stage.isPooled || (await passes(traffic, '/before')),
  );
  if (stage.holds !== undefined) process.kill((stage.holds === 'desk' ? desk : store).pid, 'SIGSTOP');
  const args = [store.host.ipv4, String(PORT), stage.sends, path];
  const client = traffic.startCaller(
    path.replaceAll('/', '-'),
    python(`${PROGRAMS}/staged-client.py`, ...args),
  );
  await waitUntil('the connection has come to its stage', async () => await isReached(stage, path, client));
  return client;
}

interface Loss {
  readonly stage: Stage;
  readonly victim: 'desk' | 'store';
  readonly survivor: MeshHost;
  readonly brokenBefore: number;
  readonly toldBefore: number;
}

const countBroken = async (host: MeshHost, victim: Loss['victim']): Promise<number> =>
  (await host.metric(`picket_mesh_broken_total{side="${victim === 'desk' ? 'called' : 'caller'}"}`)) ?? 0;

/** Log and metric of the agent that is left, or what it tells the user whose connection it was. */
async function expectTold({ stage, victim, survivor, brokenBefore, toldBefore }: Loss): Promise<void> {
  if (stage.isForwarded) {
    // The line of an earlier one may come as late as a second after it.
    await waitUntil('it is counted', async () => (await countBroken(survivor, victim)) === brokenBefore + 1);
    await waitUntil(
      'it is told',
      () => eventsOf(survivor.log(), 'mesh_connections_broke').length > toldBefore,
    );
  } else if (victim === 'store') {
    await waitUntil('the caller is told why', async () =>
      (await survivor.picketOk('why', '--last', '1', '--json')).includes('target_unreachable'),
    );
  }
}

/** Nothing passes: not from the mesh, not from a host without Picket. */
async function expectNothingPasses(path: string): Promise<void> {
  expect(await passes(traffic, `/meanwhile${path}`)).toBe(false);
  const outside = traffic.mesh.control.host.in(
    'curl',
    '-sf',
    '-m',
    '3',
    `http://${traffic.store.host.ipv4}:${PORT}/outside${path}`,
  );
  expect((await run(outside)).exitCode).not.toBe(0);
  expect([countSeen(`/meanwhile${path}`), countSeen(`/outside${path}`)]).toEqual([0, 0]);
}

describe.each(['desk', 'store'] as const)('the agent of %s killed while a connection is', (victim) => {
  test.each(
    STAGES.filter((stage) => stage.holds !== 'desk' || victim === 'desk').map(
      (stage) => [stage.name, stage] as const,
    ),
  )('%s', async (_, stage) => {
    const path = `${stage.path}-${victim}`;
    const survivor = victim === 'desk' ? traffic.store : traffic.desk;
    const client = await begin(stage, path);
    const brokenBefore = stage.holds === undefined ? await countBroken(survivor, victim) : 0;
    const toldBefore = eventsOf(survivor.log(), 'mesh_connections_broke').length;
    await traffic[victim].stop('SIGKILL');
    if (stage.holds !== undefined && stage.holds !== victim)
      process.kill(traffic[stage.holds].pid, 'SIGCONT');
    await waitUntil('the program hears of it', () => client.log().includes('over: '), 60_000);
    expect(client.log().includes('ok')).toBe(stage.sends === 'idle');
    await expectTold({ stage, victim, survivor, brokenBefore, toldBefore });
    await expectNothingPasses(path);
    expect(countSeen(path)).toBe(stage.isForwarded ? 1 : 0);
    await traffic[victim].start();
    await waitUntil('requests pass', async () => await passes(traffic, `/after${path}`), 30_000);
  });
});

describe('after all that', () => {
  test('the wire has carried no content of the application’s but within the mesh', () => {
    for (const wire of wires) expect(wire.log()).not.toContain(`.${PORT}: Flags`);
  });

  test('every request that the application has seen is on record, none twice, and no record is missing', async () => {
    const seen = traffic
      .service('/web')
      .log()
      .split('\n')
      .filter((line) => line.startsWith('seen '))
      .map((line) => line.slice('seen '.length));
    const items = await waitUntil('the server has it all', async () => {
      const allowed = await readAllowed();
      return allowed.length >= seen.length ? allowed : undefined;
    });
    const recorded = items.map(({ path }) => path ?? '');
    expect(recorded.toSorted()).toEqual(seen.toSorted());
    expect(new Set(items.map(({ decision_id: id }) => id)).size).toBe(items.length);
    const logs = [traffic.store, traffic.desk, traffic.mesh.control].map((each) => each.log()).join('\n');
    for (const event of ['audit_gap', 'audit_segment_damaged', 'audit_records_missing', 'audit_chain_broken'])
      expect(logs).not.toContain(event);
    expect((await traffic.store.metric('picket_audit_refused_total')) ?? 0).toBe(0);
  });
});

/** What the called side allowed, as the server has it. */
async function readAllowed(): Promise<readonly AccessRecordShown[]> {
  const decided = await decisionsBelow(traffic.mesh.control, 'spiffe://example.org/web', '/');
  return decided.filter(({ decision }) => decision === 'allow');
}
