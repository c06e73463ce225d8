import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { entry } from '../../../shared/protocol/registration.ts';
import { nodePage } from '../../../shared/protocol/operator.ts';
import { run } from '../../kit/child.ts';
import { asUser } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import { WorkloadClient } from '../../kit/workload-client.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import type { Benchmark, BenchRun } from '../bench-run.ts';
import { rowOfOne } from '../compare.ts';
import { ALL_CORES, LOAD_UID, type Lab } from '../lab.ts';
import { LineReader } from '../load/line-reader.ts';
import { quantile, type Row, type Table } from '../measure.ts';
import { askServer } from '../server-request.ts';

const name = 'propagation';
const title = 'From a change at the server to its effect on a host';
const WATCH = readFileSync(join(import.meta.dirname, '../load/watch-status.py'), 'utf8');
const NEWCOMER = 7002;
/** Changes for each round that was asked for. */
const CHANGES_PER_ROUND = 20;

/** A policy pushed until the first request that is decided by it; an entry created until its X509-SVID is at the workload. */
export const propagation: Benchmark = { name, title, isQuick: true, measure };

async function measure(run: BenchRun): Promise<Table> {
  await run.lab.measureServer();
  const changes = run.rounds * CHANGES_PER_ROUND;
  run.progress(`${name}: ${changes} policies`);
  const policyMs = await pushPolicies(run.lab, changes);
  run.progress(`${name}: ${changes} entries`);
  const entryMs = await createEntries(run.lab, changes);
  const rows: readonly Row[] = [
    ...rowsOf('policy published to first decision', policyMs, 1000),
    ...rowsOf('entry created to SVID at the workload', entryMs, 500),
  ];
  const notes = [
    'from the sending of the request to the server, which checks, tests, compiles and signs a policy within that time',
    `${changes} changes of each kind`,
  ];
  return { name, title, rows, notes };
}

function rowsOf(what: string, tookMs: readonly number[], bound: number): readonly Row[] {
  return [
    rowOfOne({ name: `${what}, p50`, unit: 'ms', better: 'less' }, quantile(tookMs, 0.5)),
    rowOfOne({ name: `${what}, p99`, unit: 'ms', better: 'less', bound }, quantile(tookMs, 0.99)),
  ];
}

async function pushPolicies(lab: Lab, count: number): Promise<readonly number[]> {
  const { caller, entry: address } = await lab.picket('pooled', 'http', ALL_CORES);
  const [host = '', port = ''] = address.split(':');
  const watcher = Bun.spawn(
    caller.in(...asUser(LOAD_UID, '/usr/bin/python3', '-c', WATCH, host, port, '/r')),
    {
      cwd: '/',
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'inherit',
    },
  );
  const tookMs: number[] = [];
  try {
    const lines = new LineReader(watcher.stdout);
    await lines.find((line) => line.endsWith(' 200'));
    for (let i = 0; i < count; i++) {
      const isOpen = i % 2 === 1;
      const sentMs = Date.now();
      await post(lab, '/policies', { files: { 'bench.rego': policyOf(isOpen, i) }, message: `change ${i}` });
      const line = await lines.find((text) => text.endsWith(isOpen ? ' 200' : ' 403'));
      tookMs.push(Number(line.split(' ')[0]) - sentMs);
    }
    await lab.publish();
  } finally {
    watcher.kill();
    await watcher.exited;
  }
  return tookMs;
}

function policyOf(isOpen: boolean, number: number): string {
  return `package picket.authz

# Change ${number}.
default allow := false

allow if {
	input.caller.path == "/load"
	input.request.path != "${isOpen ? '/admin' : '/r'}"
}
`;
}

async function createEntries(lab: Lab, count: number): Promise<readonly number[]> {
  const agent = await lab.callingAgent();
  const folder = join(lab.folder, `workload-client-${Date.now()}`);
  mkdirSync(folder, { recursive: true });
  const client = await WorkloadClient.build(folder);
  const parentId = await parentOf(lab, agent);
  const tookMs: number[] = [];
  for (let i = 0; i < count; i++) {
    const spiffeId = `spiffe://bench.test/newcomer/${i}`;
    tookMs.push(
      await createEntry(lab, {
        agent,
        client,
        body: { spiffeId, parentId, selectors: [`unix:uid:${NEWCOMER}`] },
      }),
    );
  }
  return tookMs;
}

/** The workload waits on the socket, as one that starts before it is registered: it has a first identity, so that its stream is open. */
async function createEntry(
  lab: Lab,
  options: {
    readonly agent: MeshHost;
    readonly client: WorkloadClient;
    readonly body: {
      readonly spiffeId: string;
      readonly parentId: string;
      readonly selectors: readonly string[];
    };
  },
): Promise<number> {
  const { agent, client, body } = options;
  const first = entry.parse(await post(lab, '/entries', { ...body, spiffeId: `${body.spiffeId}/first` }));
  // A client that finds nothing is refused, and does not wait.
  await waitUntil('the first identity is there', async () => {
    const { stdout } = await run(client.command(agent, NEWCOMER, 'FetchX509SVID', 1), { cwd: '/' });
    return stdout.includes(`"${body.spiffeId}/first"`);
  });
  const stream = Bun.spawn(client.command(agent, NEWCOMER, 'FetchX509SVID', 100), {
    cwd: '/',
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'inherit',
  });
  try {
    const lines = new LineReader(stream.stdout);
    await lines.find((line) => line.includes(`"${body.spiffeId}/first"`));
    const sentMs = performance.now();
    const second = entry.parse(await post(lab, '/entries', body));
    await lines.find((line) => line.includes(`"${body.spiffeId}"`));
    const tookMs = performance.now() - sentMs;
    for (const { entryId } of [first, second])
      await send(lab, { method: 'DELETE', path: `/entries/${entryId}` });
    return tookMs;
  } finally {
    stream.kill();
    await stream.exited;
  }
}

async function parentOf(lab: Lab, agent: MeshHost): Promise<string> {
  const { items } = nodePage.parse(await send(lab, { method: 'GET', path: '/nodes' }));
  const node = items.find(({ nodeId }) => nodeId.endsWith(`/${agent.name}`));
  if (node === undefined) throw new Error(`The server knows no node ${agent.name}`);
  return node.nodeId;
}

async function post(lab: Lab, path: string, body: unknown): Promise<unknown> {
  return await send(lab, { method: 'POST', path, body });
}

async function send(lab: Lab, request: Parameters<typeof askServer>[1]): Promise<unknown> {
  return await askServer(lab.mesh.control.socket, request);
}
