import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { decisionsBelow } from '../../kit/access-records.ts';
import type { Child } from '../../kit/child.ts';
import { waitUntil } from '../../kit/wait.ts';
import type { TrafficMesh } from '../traffic/traffic-mesh.ts';
import { ConstantLoad, countSeen, HTTP_PORT, openLoadedMesh, pathsSeen } from './constant-load.ts';

/** An agent is killed under constant load: nothing passes while it is dead, and a supervisor has it back at once, with the server or without it. */

setDefaultTimeout(180_000);

/** Generous: others may work on the machine. What it took is printed. */
const BACK_WITHIN_MS = 30_000;
/** An agent that has found no server for a while tries again after half a minute. */
const SHIPPED_WITHIN_MS = 60_000;
const MESH_PORT = 15_008;
let traffic: TrafficMesh;

beforeAll(async () => {
  traffic = await openLoadedMesh();
}, 180_000);
afterAll(async () => await traffic?.close());

/** One request of /caller; its exit code. */
async function ask(path: string): Promise<number> {
  const url = `http://${traffic.store.host.ipv4}:${HTTP_PORT}${path}`;
  return (await traffic.asCaller(['curl', '-sf', '-m', '5', url])).exitCode;
}

/** Asks without pause until it is answered; how long that took, in milliseconds. */
function startAsking(name: string): Child {
  const url = `http://${traffic.store.host.ipv4}:${HTTP_PORT}/back/${name}`;
  const script = 'until curl -sf -m 2 "$0" >/dev/null; do sleep 0.01; done; echo answered';
  return traffic.startCaller(`asking-${name}`, ['bash', '-c', script, url]);
}

/** What came to the called side before the agent died has a connection there until it was read, to the agent and then to the application, which writes it down. */
async function untilAllWasRead(): Promise<void> {
  const states = ['established', 'close-wait'].flatMap((state) => ['state', state]);
  const open = async (): Promise<string> =>
    await traffic.store.host.runOk('ss', '-Htn', ...states, `sport = :${MESH_PORT} or sport = :${HTTP_PORT}`);
  await waitUntil('all that came was read', async () => (await open()) === '');
}

/** Nothing that anybody sends reaches the application while the agent is dead: not through the mesh, and not past it. */
async function expectNothingPasses(name: string): Promise<void> {
  await untilAllWasRead();
  const before = countSeen(traffic, '/');
  expect(await ask(`/dead/${name}`)).not.toBe(0);
  const outside = traffic.mesh.control.host;
  const url = `http://${traffic.store.host.ipv4}:${HTTP_PORT}/dead/outside-${name}`;
  expect((await Bun.$`${outside.in('curl', '-sf', '-m', '3', url)}`.nothrow().quiet()).exitCode).not.toBe(0);
  expect(countSeen(traffic, '/dead/')).toBe(0);
  // The load goes on knocking all the while.
  expect(countSeen(traffic, '/')).toBe(before);
}

describe.each(['desk', 'store'] as const)('the agent of %s, killed under load', (victim) => {
  test.each(['with', 'without'] as const)('fails closed and is back at once, %s the server', async (how) => {
    const name = `${victim}-${how}`;
    const load = await ConstantLoad.start(traffic);
    if (how === 'without') await traffic.mesh.control.stop('SIGKILL');
    await traffic[victim].stop('SIGKILL');
    await expectNothingPasses(name);
    const asking = startAsking(name);
    const startedMs = performance.now();
    traffic[victim].launch();
    await waitUntil('it serves', () => asking.log().includes('answered'), BACK_WITHIN_MS);
    const backMs = Math.round(performance.now() - startedMs);
    process.stdout.write(`${name}: from the start of the agent to the first answer ${backMs} ms\n`);
    if (how === 'without') await traffic.mesh.control.start();
    await waitUntil('it is ready', async () => await traffic[victim].isReady());
    const { single, kept } = await load.end();
    // Those that were asked while it was dead.
    expect(single.failed).toBeGreaterThan(0);
    expect(single.answered).toBeGreaterThan(0);
    expect(kept.answered).toBeGreaterThan(0);
  });
});

describe('after that', () => {
  test('what the application has seen was allowed by a decision on record', async () => {
    // Who asked again because the first answer took too long was seen twice.
    const seen = pathsSeen(traffic, '/back/');
    const names = ['desk-with', 'desk-without', 'store-with', 'store-without'];
    expect(new Set(seen)).toEqual(new Set(names.map((name) => `/back/${name}`)));
    const isRecorded = async (): Promise<boolean> => {
      const shown = await decisionsBelow(traffic.mesh.control, 'spiffe://example.org/web', '/back/');
      const allowed = shown.filter(({ decision }) => decision === 'allow').map(({ path }) => path);
      const times = (paths: readonly unknown[], path: string): number =>
        paths.filter((each) => each === path).length;
      return seen.every((path) => times(allowed, path) >= times(seen, path));
    };
    await waitUntil('the record has them', isRecorded, SHIPPED_WITHIN_MS);
  });
});
