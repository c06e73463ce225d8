import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '../../kit/wait.ts';
import { python, pythonService, TrafficMesh } from './traffic-mesh.ts';

/**
 * Connections that carry nothing for long. Agents have no time limit for an open connection but the end of its certificates; what could end it are limits that are
 * meant for something else (a head, a first byte, a lingering end: 5 to 10 s; keepalive probes after 30 s), and the kernel, which forgets
 * redirected connections on which nothing moves: after five days by default, after IDLE_SECONDS less a bit here.
 */

setDefaultTimeout(120_000);

const IDLE_SECONDS = 50;
/** Longer than agents are silent on a connection. */
const TRACKED_SECONDS = 40;
const TRACKED_STATES = ['established', 'close_wait', 'fin_wait', 'last_ack'];
const PORT = 7400;
const HTTP_PORT = 7401;
let traffic: TrafficMesh;
let shared: string;

beforeAll(async () => {
  shared = mkdtempSync(join(tmpdir(), 'picket-idle-'));
  chmodSync(shared, 0o755);
  const lines = pythonService({
    path: '/lines',
    uid: 7241,
    listen: [String(PORT)],
    program: 'idle.py',
    args: ['serve', String(PORT), shared],
  });
  const web = pythonService({
    path: '/web',
    uid: 7242,
    listen: [String(HTTP_PORT)],
    program: 'http-application.py',
    args: [String(HTTP_PORT)],
  });
  traffic = await TrafficMesh.open({
    services: [lines, web],
    isOpen: async (open) => {
      const asks = [
        ['curl', '-sf', `http://${open.store.host.ipv4}:${HTTP_PORT}/number/1`],
        [
          'timeout',
          '5',
          'bash',
          '-c',
          `read -r line </dev/tcp/${open.store.host.ipv4}/${PORT} && [ "$line" = hello ]`,
        ],
      ];
      const answers = await Promise.all(asks.map(async (ask) => await open.asCaller(ask)));
      return answers.every(({ exitCode }) => exitCode === 0);
    },
  });
  for (const { host } of [traffic.store, traffic.desk])
    for (const state of TRACKED_STATES)
      await host.runOk('sysctl', '-qw', `net.netfilter.nf_conntrack_tcp_timeout_${state}=${TRACKED_SECONDS}`);
}, 120_000);
afterAll(async () => {
  await traffic?.close();
  rmSync(shared, { recursive: true, force: true });
});

test('connections that were idle for long, in whatever state, go on', async () => {
  const { ipv4, ipv6 } = traffic.store.host;
  const callers = [ipv4, ipv6].map((host, i) => {
    const command = python('idle.py', 'call', shared, host, String(PORT), String(HTTP_PORT));
    return traffic.startCaller(`idle-${i}`, command);
  });
  for (const caller of callers) await caller.ready('all are open', () => caller.log().includes('idle\n'));
  await Bun.sleep(IDLE_SECONDS * 1000);
  writeFileSync(join(shared, 'go'), '');
  for (const caller of callers) {
    await waitUntil('the program has ended', () => !caller.isRunning, 60_000);
    expect(caller.log().trim().split('\n')).toEqual([
      'idle',
      'Silent works',
      'Used works',
      'HalfClosed works',
      'Http works',
      'HttpBody works',
    ]);
  }
});
