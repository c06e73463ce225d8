import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { Child, runOk } from '../../kit/child.ts';
import { asUser, isListening } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { python, pythonService, TrafficMesh } from '../traffic/traffic-mesh.ts';

/** A TLS ClientHello in as many pieces as there can be, between the agents and of a program's own TLS through them; and one that never ends. */

setDefaultTimeout(120_000);

const PROGRAMS = '../../bad-days/programs';
const LINES_PORT = 8088;
const TLS_PORT = 8443;
/** In front of the mesh port of `store`. */
const RELAY_PORT = 15_019;
let traffic: TrafficMesh;

beforeAll(async () => {
  const lines = pythonService({
    path: '/lines',
    uid: 7341,
    listen: [String(LINES_PORT)],
    program: `${PROGRAMS}/lines.py`,
    args: ['serve', String(LINES_PORT)],
  });
  traffic = await TrafficMesh.open({
    services: [lines, tlsService],
    isOpen: async (open) =>
      (await talk(open)) === 0 && (await open.asCaller(tlsClient(open, 'whole'))).exitCode === 0,
    settings: {
      capture: { exclude: { inbound_ports: [RELAY_PORT] } },
      mesh: { reuse_connections: false, resume_sessions: false },
    },
  });
}, 120_000);
afterAll(async () => await traffic?.close());

/** A Python program with TLS of its own; its certificate is made for it. */
const tlsService = {
  path: '/tls',
  selectors: ['unix:uid:7342'],
  listen: [String(TLS_PORT)],
  start: async (host: TrafficMesh['store']['host'], folder: string): Promise<Child> => {
    const certificate = join(folder, 'tls.pem');
    const made = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      '/CN=tls.example.org',
    ];
    const pem = await runOk(['openssl', 'req', '-x509', ...made, '-keyout', '-', '-out', '-', '-days', '1']);
    writeFileSync(certificate, pem, { mode: 0o644 });
    const child = new Child({
      command: host.in(
        ...asUser(7342, ...python(`${PROGRAMS}/pieces.py`, 'serve', String(TLS_PORT), certificate)),
      ),
      logFile: join(folder, 'tls.log'),
      cwd: '/',
    });
    await child.ready('/tls listens', async () => await isListening(host, TLS_PORT));
    return child;
  },
};

/** The exit code of a program that says a line to /lines and reads it back. */
async function talk(open: TrafficMesh): Promise<number> {
  const script = `exec 3<>/dev/tcp/${open.store.host.ipv4}/${LINES_PORT} && echo one >&3 && read -r line <&3 && [ "$line" = one ]`;
  return (await open.asCaller(['timeout', '30', 'bash', '-c', script])).exitCode;
}

function tlsClient(open: TrafficMesh, how: string): readonly string[] {
  return python(`${PROGRAMS}/pieces.py`, 'call', open.store.host.ipv4, String(TLS_PORT), how);
}

/** While it runs, what comes to the mesh port of `store` goes through a relay that takes the first message to pieces. */
async function withRelay(how: string, work: () => Promise<void>): Promise<void> {
  const { host } = traffic.store;
  const relay = new Child({
    command: host.in(...python(`${PROGRAMS}/pieces.py`, 'relay', String(RELAY_PORT), '15008', how)),
    logFile: join(traffic.folder, `relay-${how}.log`),
    cwd: '/',
  });
  await relay.ready('the relay listens', async () => await isListening(host, RELAY_PORT));
  const rule = `add rule inet pieces steer iifname eth0 tcp dport 15008 redirect to :${RELAY_PORT}`;
  const chain = 'add chain inet pieces steer { type nat hook prerouting priority -120; }';
  await host.runOk('nft', `add table inet pieces; ${chain}; ${rule}`);
  try {
    await work();
    expect(relay.log()).toContain('relayed');
  } finally {
    await host.runOk('nft', 'delete', 'table', 'inet', 'pieces');
    await relay.stop('SIGKILL');
  }
}

describe('a ClientHello between the agents', () => {
  test.each(['bytes', 'records'])('taken to pieces (%s) opens a connection like any other', async (how) => {
    await withRelay(how, async () => {
      for (let i = 0; i < 5; i++) expect(await talk(traffic)).toBe(0);
    });
  });

  test('that never ends is given up within seconds, on both sides, and is named', async () => {
    const { store, desk } = traffic;
    const failed = 'picket_mesh_handshakes_total{side="called",outcome="failed"}';
    const before = (await store.metric(failed)) ?? 0;
    await withRelay('half', async () => {
      const askedMs = performance.now();
      expect(await talk(traffic)).not.toBe(0);
      expect(performance.now() - askedMs).toBeLessThan(25_000);
    });
    await waitUntil('it is counted', async () => ((await store.metric(failed)) ?? 0) > before);
    expect(eventsOf(store.log(), 'mesh_hello_refused').join('\n')).toContain('it did not come in time');
    expect(await desk.picketOk('why', '--last', '1', '--json')).toContain('target_unreachable');
    await waitUntil('connections pass', async () => (await talk(traffic)) === 0);
  });
});

describe('a ClientHello of a program’s own TLS', () => {
  test.each(['bytes', 'records'])('taken to pieces (%s) reaches the other program', async (how) => {
    const { exitCode, stdout, stderr } = await traffic.asCaller(tlsClient(traffic, how));
    expect([exitCode, stdout, stderr]).toEqual([0, 'echo: hello\n', '']);
  });

  test('that never ends holds up nobody else, and its connection ends when its program ends it', async () => {
    const { exitCode } = await traffic.asCaller(tlsClient(traffic, 'half'));
    expect(exitCode).toBe(1);
    expect((await traffic.asCaller(tlsClient(traffic, 'whole'))).exitCode).toBe(0);
  });
});
