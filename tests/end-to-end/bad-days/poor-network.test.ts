import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage } from '../../../shared/protocol/operator.ts';
import { decisionsBelow } from '../../kit/access-records.ts';
import { waitUntil } from '../../kit/wait.ts';
import { pythonService, TrafficMesh } from '../traffic/traffic-mesh.ts';

/** A network between the hosts that loses one packet in twenty, those to the server included. */

setDefaultTimeout(240_000);

const PORT = 8089;
const LOSS_PERCENT = 5;
const KEPT = 150;
const SINGLE = 60;
const BODY_BYTES = 4_000_000;
let traffic: TrafficMesh;

beforeAll(async () => {
  const web = pythonService({
    path: '/web',
    uid: 7351,
    listen: [String(PORT)],
    program: '../../bad-days/programs/held-application.py',
    args: [String(PORT)],
  });
  traffic = await TrafficMesh.open({ services: [web], isOpen: passes });
  for (const { host } of [traffic.store, traffic.desk, traffic.mesh.control])
    await host.runOk(
      'nft',
      [
        'add table inet loss',
        'add chain inet loss arriving { type filter hook prerouting priority -300; }',
        `add rule inet loss arriving iifname eth0 meta l4proto tcp numgen random mod 100 < ${LOSS_PERCENT} counter drop`,
      ].join('; '),
    );
}, 120_000);
afterAll(async () => await traffic?.close());

async function passes(open: TrafficMesh): Promise<boolean> {
  return (await open.asCaller(['curl', '-sf', '-m', '5', urlOf(open, '/open')])).exitCode === 0;
}

function urlOf({ store }: TrafficMesh, path: string): string {
  return `http://${store.host.ipv4}:${PORT}${path}`;
}

/** The status of each request of one curl. */
async function ask(path: string, ...options: readonly string[]): Promise<readonly string[]> {
  const format = String.raw`%{http_code}\n`;
  const command = ['curl', '-s', '-o', '/dev/null', '-w', format, ...options, urlOf(traffic, path)];
  const { stdout } = await traffic.asCaller(command, { withinMs: 150_000 });
  return stdout.trimEnd().split('\n');
}

async function countLost(): Promise<number> {
  const rules = await traffic.store.host.runOk('nft', 'list', 'table', 'inet', 'loss');
  return Number(/counter packets (\d+)/.exec(rules)?.[1]);
}

/** Paths of requests that the application has seen. */
function seenPaths(): readonly string[] {
  const lines = traffic.service('/web').log().split('\n');
  return lines.filter((line) => line.startsWith('seen /lossy')).map((line) => line.slice('seen '.length));
}

/** As often as the server has them; all are allowed. */
async function recordedPaths(): Promise<readonly string[]> {
  const decided = await decisionsBelow(traffic.mesh.control, 'spiffe://example.org/web', '/lossy');
  expect(decided.filter(({ decision }) => decision !== 'allow')).toEqual([]);
  return decided.map(({ path }) => path ?? '');
}

/** Of /caller, since then: none was refused before its request was seen either. */
async function refusalsSince(startedMs: number): Promise<readonly unknown[]> {
  const filter = ['--caller', 'spiffe://example.org/caller', '--decision', 'deny'];
  const { items } = await traffic.mesh.control.picketJson(accessPage, 'audit', 'access', ...filter);
  return items.filter(({ ts }) => Date.parse(ts) >= startedMs);
}

test('requests on kept and on single connections, and large bodies, are answered; each is decided and recorded once', async () => {
  const startedMs = Date.now();
  const kept = await ask(`/lossy/kept-[1-${KEPT}]`);
  const single = await ask(`/lossy/single-[1-${SINGLE}]`, '-H', 'Connection: close');
  const upload = join(traffic.folder, 'body');
  writeFileSync(upload, Buffer.alloc(BODY_BYTES), { mode: 0o644 });
  const body = await ask('/lossy/body', '--data-binary', `@${upload}`);
  expect([kept, single, body].map((answers) => [...new Set(answers)])).toEqual([['200'], ['200'], ['200']]);
  expect([kept.length, single.length]).toEqual([KEPT, SINGLE]);
  expect(await countLost()).toBeGreaterThan(10);

  const seen = seenPaths();
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen.length).toBe(KEPT + SINGLE + 1);
  await waitUntil('all is recorded', async () => (await recordedPaths()).length >= seen.length, 60_000);
  expect((await recordedPaths()).toSorted()).toEqual(seen.toSorted());
  expect(await refusalsSince(startedMs)).toEqual([]);
});
