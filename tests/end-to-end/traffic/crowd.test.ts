import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runOk, type Child } from '../../kit/child.ts';
import { startNginx } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import { readMemory } from './process-memory.ts';
import { python, TrafficMesh, type Service } from './traffic-mesh.ts';

/** 10,000 connections open at once, of which 1,000 are busy, to nginx through the mesh. */

setDefaultTimeout(180_000);

const CONNECTIONS = 10_000;
const ACTIVE = 1000;
const BUSY_SECONDS = 5;
/** Of an agent: two for each connection, and what it needs besides. */
const SPARE_DESCRIPTORS = 1000;
/** What a connection may cost an agent, in bytes: some 40 KiB, TLS and two sockets. */
const MAX_BYTES_PER_CONNECTION = 64 * 1024;
/** Nobody may hold more than three quarters of all places. */
const LIMITS = { connections: 2 * CONNECTIONS, connections_per_host: 2 * CONNECTIONS };

const nginx: Service = {
  path: '/web',
  selectors: ['unix:user:www-data'],
  listen: ['80'],
  start: async (host, folder) =>
    await startNginx(host, {
      folder: join(folder, 'nginx'),
      locations: 'keepalive_timeout 600s; keepalive_requests 1000000; location / { return 200 "ok\\n"; }',
      accessLog: false,
      connections: CONNECTIONS + 100,
    }),
};

/** As many pairs of hosts as it takes: where a process may not have 20,000 descriptors and some, one pair cannot carry all. */
let pairs: readonly TrafficMesh[] = [];

beforeAll(async () => {
  const limit = Number((await runOk(['bash', '-c', 'ulimit -Hn'])).replace('unlimited', 'Infinity'));
  const perPair = Math.floor((limit - SPARE_DESCRIPTORS) / 2);
  for (let carried = 0; carried < CONNECTIONS; carried += perPair)
    pairs = [
      ...pairs,
      await TrafficMesh.open({
        services: [nginx],
        settings: { limits: LIMITS, log_level: 'info' },
        isOpen: async (open) =>
          (await open.asCaller(['curl', '-sf', `http://${open.store.host.ipv4}/ready`])).exitCode === 0,
      }),
    ];
}, 120_000);
afterAll(async () => {
  for (const pair of pairs) await pair.close();
});

const agentsOf = (pair: TrafficMesh): readonly number[] => [pair.store.pid, pair.desk.pid];

/** Resident memory of every agent, in bytes. */
function memories(): readonly number[] {
  return pairs.flatMap(agentsOf).map((pid) => readMemory(pid).residentBytes);
}

function numberIn(log: string, word: string): number | undefined {
  const found = new RegExp(`^${word} (\\d+)$`, 'm').exec(log)?.[1];
  return found === undefined ? undefined : Number(found);
}

/** Waits until every crowd has printed `word`; the numbers added up. Nobody may have been lost by then. */
async function sumOf(crowds: readonly Child[], word: string): Promise<number> {
  const numbers = await waitUntil(
    `every crowd says ${word}`,
    () => {
      const found = crowds.map((crowd) => numberIn(crowd.log(), word));
      return found.every((each) => each !== undefined) && found;
    },
    150_000,
  );
  expect(crowds.flatMap((crowd) => crowd.log().match(/^lost .*/gm) ?? [])).toEqual([]);
  return numbers.reduce((sum, each) => sum + each, 0);
}

test('10,000 connections are open, 1,000 of them busy, and each still answers at the end', async () => {
  const before = memories();
  const share = Math.ceil(CONNECTIONS / pairs.length);
  const counts = [share, Math.ceil(ACTIVE / pairs.length), BUSY_SECONDS].map(String);
  const crowds = pairs.map((pair) =>
    pair.startCaller('crowd', python('crowd.py', pair.folder, pair.store.host.ipv4, '80', ...counts)),
  );
  expect(await sumOf(crowds, 'open')).toBe(share * pairs.length);
  for (const pair of pairs) writeFileSync(join(pair.folder, 'active'), '');
  expect(await sumOf(crowds, 'active')).toBeGreaterThan(ACTIVE);
  const growth = memories().map((bytes, i) => (bytes - (before[i] ?? 0)) / share);
  for (const pair of pairs) writeFileSync(join(pair.folder, 'last'), '');
  expect(await sumOf(crowds, 'last')).toBe(share * pairs.length);
  expect(Math.max(...growth)).toBeLessThan(MAX_BYTES_PER_CONNECTION);
});
