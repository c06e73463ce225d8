import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { statusAnswer } from '../../agent/admin/admin-answers.ts';
import { Child, runOk } from '../kit/child.ts';
import {
  GATEWAY,
  GATEWAY_SELECTORS,
  GATEWAY_USERS,
  GatewayMesh,
  OUTSIDE,
  type GatewayHost,
} from '../kit/gateway-mesh.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import { asUser, curl } from '../kit/programs.ts';
import { attributesOf, KIND, SpanReceiver, TRACES } from '../kit/traces/span-receiver.ts';
import { waitUntil } from '../kit/wait.ts';
import { eventsOf } from '../kit/witnesses.ts';

/** A gateway of two hosts, all with the data path in two processes and capture by eBPF: one dies, loses its identity or is replaced under load. */

setDefaultTimeout(120_000);

const { web } = GATEWAY_USERS;
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT_SPAN = 'b7ad6b7169203331';
/** By docs/egress.md: three seconds for a host that is silent, and what a busy machine takes. */
const PASSED_OVER_MS = 3000 + 4000;
const REQUESTS_AT_ONCE = 4;

let rig: GatewayMesh;
let receivers: { readonly desk: SpanReceiver; readonly gate: SpanReceiver };

beforeAll(async () => {
  rig = await GatewayMesh.open({
    backend: 'ebpf',
    settings: { proxy: { workers: 2 }, traces: TRACES },
    hasSpare: true,
  });
  receivers = {
    desk: await SpanReceiver.start(rig.desk.host, rig.folder),
    gate: await SpanReceiver.start(rig.gate.host, rig.folder),
  };
}, 240_000);
afterAll(async () => {
  for (const receiver of Object.values(receivers ?? {})) await receiver.stop();
  await rig?.close();
});

interface Outcome {
  readonly status: number;
  /** The gateway that the outsider saw. */
  readonly from: string;
  readonly beganMs: number;
  readonly tookMs: number;
  readonly error: string;
}

async function ask(): Promise<Outcome> {
  const beganMs = performance.now();
  const { status, body, error } = await rig.askTls(web, OUTSIDE.api);
  const from = /from=(\S+)/.exec(body)?.[1] ?? '';
  return { status, from, beganMs, tookMs: performance.now() - beganMs, error };
}

/** Requests one after the other, a few at once, each on a connection of its own, as long as `work` takes. */
async function underLoad(work: () => Promise<void>): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  const over = new AbortController();
  const askOn = async (): Promise<void> => {
    while (!over.signal.aborted) outcomes.push(await ask());
  };
  const load = Promise.all(Array.from({ length: REQUESTS_AT_ONCE }, askOn));
  await waitUntil('the load is under way', () => outcomes.length > REQUESTS_AT_ONCE);
  try {
    await work();
    const before = outcomes.length;
    await waitUntil('it goes on', () => outcomes.length > before + 2 * REQUESTS_AT_ONCE);
  } finally {
    over.abort();
    await load;
  }
  return outcomes;
}

/** Waits until both hosts take what is brought to them. */
async function untilBothServe(): Promise<void> {
  const seen = new Set<string>();
  await waitUntil('both serve', async () => {
    seen.add((await ask()).from);
    return rig.gateways.every(({ agent }) => seen.has(agent.host.ipv4));
  });
}

/** A host that failed comes last for half a minute: another agent of the programs' host knows nothing of that. */
async function forgetFailures(): Promise<void> {
  await rig.desk.stop('SIGKILL');
  await rig.desk.start();
  await untilBothServe();
}

function holdOpen(name: string): Child {
  const client = ['openssl', 's_client', '-quiet', '-servername', OUTSIDE.api];
  return new Child({
    command: rig.desk.host.in(...asUser(web, ...client, '-connect', `${rig.outsider.ipv4}:443`)),
    logFile: join(rig.folder, `${name}.log`),
    cwd: '/',
    isTypedTo: true,
  });
}

/** Connections that the outsider's nginx holds at its TLS port with that host. */
async function countFrom({ agent }: GatewayHost): Promise<number> {
  const filter = ['state', 'established', 'sport', '=', ':443', 'and', 'dst', agent.host.ipv4];
  return (await runOk(rig.outsider.in('ss', '-tnH', ...filter))).trim().split('\n').filter(Boolean).length;
}

function hosts(): readonly [GatewayHost, GatewayHost] {
  const [gate, spare] = rig.gateways;
  if (gate === undefined || spare === undefined) throw new Error('There are too few gateways');
  return [gate, spare];
}

/** Connections of `web` that stay open, until each host carries one. The outsider has no others then: what was asked before may be closed a little later. */
async function holdThroughBoth(): Promise<AsyncDisposable> {
  const held: Child[] = [];
  const carried = async (): Promise<readonly number[]> => await Promise.all(rig.gateways.map(countFrom));
  const areHeld = async (): Promise<boolean> =>
    (await carried()).reduce((sum, each) => sum + each, 0) === held.length;
  await waitUntil('what was asked before is closed', areHeld);
  await waitUntil('each host carries one', async () => {
    held.push(holdOpen(`held-${crypto.randomUUID()}`));
    await waitUntil('it is carried', areHeld);
    return (await carried()).every((count) => count > 0);
  });
  return {
    [Symbol.asyncDispose]: async () => void (await Promise.all(held.map(async (each) => await each.stop()))),
  };
}

async function predecessorOf(host: MeshHost): Promise<unknown> {
  return statusAnswer.parse(JSON.parse(await host.picketOk('agent', 'status', '--json'))).predecessor;
}

describe('the spans of what leaves by a gateway', () => {
  test('hang below each other from the program to the server, for a request', async () => {
    const parent = `00-${TRACE}-${PARENT_SPAN}-01`;
    const url = `http://${OUTSIDE.mirror}/trace?secret=1`;
    const resolve = ['--resolve', `${OUTSIDE.mirror}:80:${rig.outsider.ipv4}`];
    const args = [...resolve, url, '-H', `traceparent: ${parent}`];
    let seen = '';
    const above = await waitUntil('a request passed the traced gateway', async () => {
      seen = (await curl(rig.desk.host, { uid: web, args })).body;
      const span = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/.exec(seen);
      expect(span?.[1]).toBe(TRACE);
      await Bun.sleep(1500);
      return receivers.gate.spans.find(({ spanId }) => spanId === span?.[2]);
    });
    const first = await receivers.desk.find(({ spanId }) => spanId === above.parentSpanId);
    expect(first).toMatchObject({
      parentSpanId: PARENT_SPAN,
      traceId: TRACE,
      kind: KIND.client,
      name: 'GET',
    });
    expect(above).toMatchObject({ traceId: TRACE, kind: KIND.server, name: 'GET' });
    const both = {
      'server.address': OUTSIDE.mirror,
      'http.response.status_code': 200,
      'picket.via': GATEWAY,
      'picket.caller_spiffe_id': 'spiffe://example.org/web',
    };
    expect(attributesOf(first)).toMatchObject({ ...both, 'url.full': `http://${OUTSIDE.mirror}/trace` });
    expect(attributesOf(above)).toMatchObject({ ...both, 'url.path': '/trace' });
    expect(JSON.stringify([first, above])).not.toContain('secret');
  });

  test('are one on each host for a connection of TLS, in one trace', async () => {
    const below = await waitUntil('one passed the traced gateway', async () => {
      await ask();
      return receivers.gate.spans.findLast(
        (span) => attributesOf(span)['tls.client.server_name'] === OUTSIDE.api,
      );
    });
    const above = await receivers.desk.find(({ spanId }) => spanId === below.parentSpanId);
    expect([above.traceId, above.kind, below.kind]).toEqual([below.traceId, KIND.client, KIND.server]);
    expect(attributesOf(above)).toMatchObject({
      'server.address': OUTSIDE.api,
      'network.peer.address': rig.gate.host.ipv4,
      'picket.via': GATEWAY,
      'picket.decision': 'allow',
      'picket.connection_id': attributesOf(below)['picket.connection_id'],
    });
  });
});

describe('a gateway of two hosts', () => {
  const deaths: readonly [string, () => Promise<void>, () => Promise<void>][] = [
    [
      'the agent is killed',
      async () => void (await rig.gate.stop('SIGKILL')),
      async () => await rig.gate.start({ isGateway: true }),
    ],
    ['the host falls silent', async () => await silence('down'), async () => await silence('up')],
  ];

  async function silence(state: 'down' | 'up'): Promise<void> {
    const port = `port${rig.mesh.network.hosts.findIndex(({ ipv4 }) => ipv4 === rig.gate.host.ipv4) + 1}`;
    await rig.mesh.network.bridge.runOk('ip', 'link', 'set', port, state);
  }

  async function loadWhile(
    die: () => Promise<void>,
    revive: () => Promise<void>,
  ): Promise<{ readonly outcomes: readonly Outcome[]; readonly diedMs: number }> {
    let diedMs = 0;
    try {
      const outcomes = await underLoad(async () => {
        await die();
        diedMs = performance.now();
      });
      return { outcomes, diedMs };
    } finally {
      await revive();
    }
  }

  test.each(deaths)(
    'goes on by the other one when %s',
    async (_, die, revive) => {
      const { outcomes, diedMs } = await loadWhile(die, revive);
      const later = outcomes.filter(({ beganMs }) => beganMs > diedMs);
      expect(later.length).toBeGreaterThan(REQUESTS_AT_ONCE);
      expect(later.filter(({ status }) => status !== 200)).toEqual([]);
      expect(new Set(later.map(({ from }) => from))).toEqual(new Set([hosts()[1].agent.host.ipv4]));
      expect(Math.max(...later.map(({ tookMs }) => tookMs))).toBeLessThan(PASSED_OVER_MS);
      await forgetFailures();
    },
    180_000,
  );

  test('takes nothing by a host whose process does not earn the identity any more, and what is open there ends with that reason', async () => {
    const [gate, spare] = hosts();
    await using _ = await holdThroughBoth();
    const selectors = (which: readonly string[]): readonly string[] =>
      which.flatMap((selector) => ['--selector', selector]);
    const update = async (...selected: readonly string[]): Promise<void> =>
      void (await rig.mesh.control.picketOk('entry', 'update', gate.entryId, ...selected));
    await update(...selectors(['unix:uid:4711']));
    await waitUntil('what is open is cut', async () => (await countFrom(gate)) === 0, 20_000);
    expect(await countFrom(spare)).toBeGreaterThan(0);
    await rig.recorded({
      decision: 'deny',
      reason: 'listener_unidentified',
      direction: 'inbound',
      via: GATEWAY,
    });
    for (let i = 0; i < 6; i++)
      expect(await ask()).toMatchObject({ status: 200, from: spare.agent.host.ipv4 });
    await update(...selectors(GATEWAY_SELECTORS));
    await forgetFailures();
  });

  test('takes nothing by a host that is registered as one no more, and what is open there ends with that reason', async () => {
    const [gate, spare] = hosts();
    await using _ = await holdThroughBoth();
    await rig.mesh.control.picketOk('entry', 'update', gate.entryId, '--listen', '15009/http');
    await waitUntil('what is open is cut', async () => (await countFrom(gate)) === 0, 20_000);
    expect(await countFrom(spare)).toBeGreaterThan(0);
    await rig.recorded({
      decision: 'deny',
      reason: 'listener_not_registered',
      direction: 'inbound',
      via: GATEWAY,
    });
    for (let i = 0; i < 6; i++)
      expect(await ask()).toMatchObject({ status: 200, from: spare.agent.host.ipv4 });
    await rig.mesh.control.picketOk('entry', 'update', gate.entryId, '--listen', '15008/egress');
    await forgetFailures();
  });

  test('loses nothing while the agent of one is replaced', async () => {
    const [, spare] = hosts();
    const { agent } = spare;
    await using _ = await holdThroughBoth();
    const before = await countFrom(spare);
    const outcomes = await underLoad(async () => {
      const { pid } = agent;
      expect((await agent.upgrade()).pid).not.toBe(pid);
      // What is open stays where it is, at the old process.
      expect(await predecessorOf(agent)).toBeDefined();
    });
    expect(outcomes.filter(({ status }) => status !== 200)).toEqual([]);
    expect(await countFrom(spare)).toBeGreaterThanOrEqual(before);
    expect((await agent.examine()).outcomes).toMatchObject({ 'agent gateway': 'ok' });
    expect(eventsOf(agent.log(), 'handover_failed')).toEqual([]);
    await untilBothServe();
  });
});
