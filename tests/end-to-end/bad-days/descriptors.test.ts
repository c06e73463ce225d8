import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { workloadCertificates } from '../../../shared/protocol/operator.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { python, pythonService, TrafficMesh } from '../traffic/traffic-mesh.ts';

/** An agent with few file descriptors, and more connections than they are enough for, on either side. */

setDefaultTimeout(180_000);

const LINES = '../../bad-days/programs/lines.py';
const PORT = 8086;
const LIMIT = 200;
const CROWD = 200;
let traffic: TrafficMesh;

beforeAll(async () => {
  const args = ['serve', String(PORT)];
  const lines = pythonService({ path: '/lines', uid: 7321, listen: [String(PORT)], program: LINES, args });
  traffic = await TrafficMesh.open({ services: [lines], isOpen: passes });
}, 120_000);
afterAll(async () => await traffic?.close());

async function passes(open: TrafficMesh): Promise<boolean> {
  const talk = `exec 3<>/dev/tcp/${open.store.host.ipv4}/${PORT} && echo one >&3 && read -r line <&3 && [ "$line" = one ]`;
  return (await open.asCaller(['timeout', '5', 'bash', '-c', talk])).exitCode === 0;
}

async function readSerial(id: string): Promise<string | undefined> {
  const { control } = traffic.mesh;
  return (await control.picketJson(workloadCertificates, 'workload', 'certificate', id)).certificates[0]
    ?.serial;
}

describe.each(['desk', 'store'] as const)('with few file descriptors the agent of %s', (name) => {
  test('refuses what it has none for, keeps what is open, does its own work, says so, and recovers', async () => {
    const host = traffic[name];
    const folder = join(traffic.folder, `crowd-${name}`);
    mkdirSync(folder, { mode: 0o755 });
    await traffic.mesh.register({
      path: `/short-${name}`,
      on: host,
      selectors: ['unix:uid:7322'],
      ttl: '20s',
    });
    await host.stop();
    await host.start({ through: ['prlimit', `--nofile=${LIMIT}:${LIMIT}`] });
    await waitUntil('connections pass', async () => await passes(traffic), 30_000);

    const args = [folder, traffic.store.host.ipv4, String(PORT), String(CROWD)];
    const crowd = traffic.startCaller(`crowd-${name}`, python(LINES, 'crowd', ...args));
    const found = await waitUntil(
      'the crowd has come',
      () => /^open (\d+) refused (\d+) longest (\d+)$/m.exec(crowd.log()) ?? undefined,
      120_000,
    );
    const [open, refused, longestMs] = found.slice(1).map(Number);
    expect(open).toBeGreaterThan(20);
    expect(refused).toBeGreaterThan(CROWD - LIMIT / 2);
    // Nobody waits for a time limit.
    expect(longestMs).toBeLessThan(10_000);

    expect(eventsOf(host.log(), 'descriptors_short').length).toBeGreaterThan(0);
    expect(eventsOf(host.log(), 'descriptors_short').length).toBeLessThan(20);
    expect(await host.metric('picket_descriptor_refusals_total')).toBeGreaterThan(0);
    const { exitCode, faults } = await host.examine();
    expect(exitCode).toBe(1);
    expect(faults.join('\n')).toMatch(
      /^agent descriptors fail: \d+ of 150 file descriptors that connections may take$/m,
    );

    const id = `spiffe://example.org/short-${name}`;
    const serial = await readSerial(id);
    await waitUntil('a certificate is renewed', async () => (await readSerial(id)) !== serial, 60_000);
    await host.host.runOk('nft', 'flush', 'chain', 'inet', 'picket', 'guard_forward');
    await waitUntil(
      'rules are repaired',
      async () => (await host.metric('picket_capture_repairs_total')) === 1,
    );
    writeFileSync(join(folder, 'again'), '');
    await waitUntil('what is open goes on', () => crowd.log().includes(`works ${open} lost 0\n`), 60_000);

    writeFileSync(join(folder, 'end'), '');
    await waitUntil('the crowd has gone', () => !crowd.isRunning);
    await waitUntil('connections pass', async () => await passes(traffic), 30_000);
    await waitUntil('all is well but for what was', async () => (await host.examine()).exitCode === 0);
    const after = (await host.examine()).faults.join('\n');
    expect(after).toMatch(
      /^agent descriptors warn: \d+ connections were refused for want of file descriptors$/m,
    );

    await host.stop();
    await host.start();
    await waitUntil('connections pass', async () => await passes(traffic), 30_000);
  });
});
