import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '../../kit/wait.ts';
import { readMemory, resetPeak } from './process-memory.ts';
import { python, pythonService, TrafficMesh } from './traffic-mesh.ts';

/** 1 GiB each way at once on one connection, between two programs that do not read until they are told to: bytes arrive whole, and agents hold no more than their buffers. */

setDefaultTimeout(90_000);

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const PORT = 7300;
/** What may be on its way one way before a writer stands still: the kernel lets an end of each of the three connections take up to 32 MiB (tcp_rmem), as fast as it is read at first. */
const MAX_ON_THE_WAY = 256 * MIB;
/** By how much an agent may grow meanwhile, with what waits to be collected. Whoever holds nobody back grows by all that is sent. */
const MAX_GROWTH = 256 * MIB;
const STILL_MS = 500;
let traffic: TrafficMesh;
let shared: string;

beforeAll(async () => {
  shared = mkdtempSync(join(tmpdir(), 'picket-bulk-'));
  // Both programs write their progress into it.
  chmodSync(shared, 0o777);
  const bulk = pythonService({
    path: '/bulk',
    uid: 7231,
    listen: [String(PORT)],
    program: 'bulk.py',
    args: ['serve', shared, String(PORT)],
  });
  traffic = await TrafficMesh.open({
    services: [bulk],
    isOpen: async (open) => {
      writeFileSync(join(shared, 'go'), '');
      const command = python(
        'bulk.py',
        'call',
        shared,
        open.store.host.ipv4,
        String(PORT),
        'tcp',
        String(MIB),
      );
      return (await open.asCaller(command)).exitCode === 0;
    },
  });
}, 120_000);
afterAll(async () => {
  await traffic?.close();
  rmSync(shared, { recursive: true, force: true });
});

/** How much each side has sent. */
function progress(): readonly number[] {
  return ['served', 'called'].map((name) => Number(readFileSync(join(shared, name), 'utf8')));
}

async function isStandingStill(): Promise<boolean> {
  const before = progress();
  await Bun.sleep(STILL_MS);
  return before.every((sent, i) => sent > 0 && progress()[i] === sent);
}

/** The hashes of what a side sent and got, from the last line that it printed. */
function hashesOf(log: string): readonly string[] {
  return log.trim().split('\n').at(-1)?.split(' ').slice(1) ?? [];
}

describe.each(['tcp', 'http'])('1 GiB each way at once over %s', (how) => {
  test('is held back while nobody reads, arrives whole, and needs little memory', async () => {
    rmSync(join(shared, 'go'), { force: true });
    for (const name of ['served', 'called']) writeFileSync(join(shared, name), '0');
    for (const name of ['served', 'called']) chmodSync(join(shared, name), 0o666);
    const agents = [traffic.store, traffic.desk];
    for (const { pid } of agents) resetPeak(pid);
    const before = agents.map(({ pid }) => readMemory(pid).residentBytes);
    const command = python(
      'bulk.py',
      'call',
      shared,
      traffic.store.host.ipv4,
      String(PORT),
      how,
      String(GIB),
    );
    const caller = traffic.startCaller(`bulk-${how}`, command);
    await waitUntil('both sides are held back', isStandingStill, 30_000);
    expect(Math.max(...progress())).toBeLessThan(MAX_ON_THE_WAY);
    writeFileSync(join(shared, 'go'), '');
    const [sent = 'nothing', got] = await waitUntil(
      'the caller has everything',
      () => !caller.isRunning && hashesOf(caller.log()),
      80_000,
    );
    await waitUntil('the service has everything', () => traffic.service('/bulk').log().includes(sent));
    expect(hashesOf(traffic.service('/bulk').log())).toEqual([got ?? 'nothing', sent]);
    expect(progress()).toEqual([GIB, GIB]);
    const growth = agents.map(({ pid }, i) => readMemory(pid).peakBytes - (before[i] ?? 0));
    expect(Math.max(...growth)).toBeLessThan(MAX_GROWTH);
  });
});
