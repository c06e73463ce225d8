import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { statusAnswer } from '../../../agent/admin/admin-answers.ts';
import { decisionsBelow } from '../../kit/access-records.ts';
import { LongLines, type LineQuality } from '../../kit/long-lines.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { pythonService, TrafficMesh } from '../traffic/traffic-mesh.ts';

/** Hosts and server far from each other, on good lines and on one that loses packets as well: requests, policies, attestation and renewal go on. */

setDefaultTimeout(300_000);

const PORT = 8093;
const LINES: readonly LineQuality[] = [
  { oneWayMs: 250, lossPercent: 0 },
  { oneWayMs: 500, lossPercent: 0 },
  { oneWayMs: 250, lossPercent: 5 },
];
const TARGET = 'spiffe://example.org/web';
const KEPT = 10;
const SINGLE = 5;
const LIFE_SECONDS = 30;
const FAR_MS = 90_000;
const POLICY = join(import.meta.dirname, '../../kit/policies/traffic');
let traffic: TrafficMesh;
let lines: LongLines;

beforeAll(async () => {
  const web = pythonService({
    path: '/web',
    uid: 7371,
    listen: [String(PORT)],
    program: '../../bad-days/programs/held-application.py',
    args: [String(PORT)],
  });
  const isOpen = async (open: TrafficMesh): Promise<boolean> =>
    (await open.asCaller(['curl', '-sf', '-m', '5', urlOf(open, '/open')])).exitCode === 0;
  traffic = await TrafficMesh.open({
    services: [web],
    isOpen,
    ttl: `${LIFE_SECONDS}s`,
    moreHosts: LINES.length,
  });
  lines = await LongLines.open(traffic.mesh.network, { folder: traffic.folder });
}, 120_000);

afterAll(async () => {
  await lines?.stop();
  await traffic?.close();
});

function urlOf({ store }: TrafficMesh, path: string): string {
  return `http://${store.host.ipv4}:${PORT}${path}`;
}

interface Answer {
  readonly status: number;
  readonly ms: number;
}

/** Each request of one curl: its status and how long it took. */
async function ask(path: string, ...options: readonly string[]): Promise<readonly Answer[]> {
  const format = String.raw`%{http_code} %{time_total}\n`;
  const command = ['curl', '-s', '-o', '/dev/null', '-w', format, ...options, urlOf(traffic, path)];
  const { stdout } = await traffic.asCaller(command, { withinMs: FAR_MS });
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split(' ').map(Number))
    .map(([status = 0, seconds = 0]) => ({ status, ms: seconds * 1000 }));
}

async function statusOf(path: string): Promise<number | undefined> {
  return (await ask(path, '-m', '20'))[0]?.status;
}

/** When the certificate of the workload that the host serves was made. */
async function issuedAt(host: MeshHost): Promise<string | undefined> {
  const status = statusAnswer.parse(JSON.parse(await host.picketOk('agent', 'status', '--json')));
  return status.identities[0]?.notBefore;
}

/** Publishes the policy with the path /refused open or shut, and waits until the hosts hold to it. */
async function publish(isOpen: boolean, name: string): Promise<void> {
  const folder = join(traffic.folder, name);
  cpSync(POLICY, folder, { recursive: true });
  if (isOpen) {
    const file = join(folder, 'policy.rego');
    writeFileSync(file, readFileSync(file, 'utf8').replace('!= "refused"', '!= "never"'));
  }
  await traffic.mesh.control.picketOk('policy', 'publish', folder, '-m', name);
  const status = isOpen ? 200 : 403;
  await waitUntil('the policy is in force', async () => (await statusOf('/refused')) === status, FAR_MS);
}

describe.each(LINES.map((quality, i) => ({ ...quality, i })))(
  'with $oneWayMs ms from host to host and a loss of $lossPercent %',
  ({ oneWayMs, lossPercent, i }) => {
    // What TCP itself gives up for lost before anything was decided.
    const mostGivenUp = lossPercent === 0 ? 0 : 2;

    test('requests on kept and on single connections are answered, and decided, none faster than the line', async () => {
      await lines.carry({ oneWayMs, lossPercent });
      await waitUntil('requests pass', async () => (await statusOf('/first')) === 200, FAR_MS);
      const kept = await ask(`/far/${i}/kept-[1-${KEPT}]`);
      const single = await ask(`/far/${i}/single-[1-${SINGLE}]`, '-H', 'Connection: close');
      const answered = [...kept, ...single].filter(({ status }) => status !== 0);
      expect(answered.filter(({ status }) => status !== 200)).toEqual([]);
      expect(answered.length).toBeGreaterThanOrEqual(KEPT + SINGLE - mostGivenUp);
      for (const { ms } of answered) expect(ms).toBeGreaterThan(2 * oneWayMs);
      // Whatever was decided was answered, and nothing twice: the mesh itself lost none.
      const decided = await waitUntil(
        'all is recorded',
        async () => {
          const found = await decisionsBelow(traffic.mesh.control, TARGET, `/far/${i}/`);
          return found.length >= answered.length ? found : undefined;
        },
        FAR_MS,
      );
      expect(decided.length).toBe(answered.length);
      // That one request, too, TCP may give up before it is decided.
      const answer = async (): Promise<number | false> => (await statusOf('/refused')) || false;
      expect(await waitUntil('it is answered', answer, FAR_MS)).toBe(i === 0 ? 403 : 200);
    });

    test('a policy is pushed: what was open is shut, what was shut is open', async () => {
      await publish(false, `shut-${i}`);
      await publish(true, `open-${i}`);
    });

    test('a host attests and is told all', async () => {
      const host = traffic.mesh.network.hosts[3 + i];
      if (host === undefined) throw new Error('There is no host left');
      const late = await traffic.mesh.prepareJoin(host, `late-${i}`);
      await late.start();
      expect(await traffic.mesh.control.picketOk('node', 'list')).toContain(`late-${i}`);
      expect((await late.examine()).outcomes).toMatchObject({ 'agent ready': 'ok', 'agent server': 'ok' });
    });

    test('certificates are renewed, and requests pass with the next ones', async () => {
      for (const host of [traffic.store, traffic.desk]) {
        const before = await issuedAt(host);
        await waitUntil('it is renewed', async () => (await issuedAt(host)) !== before, FAR_MS);
      }
      await waitUntil('requests pass', async () => (await statusOf('/renewed')) === 200, FAR_MS);
      if (lossPercent > 0) return;
      for (const host of [traffic.store, traffic.desk])
        expect(eventsOf(host.log(), 'renewal_failed')).toEqual([]);
    });
  },
);
