import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { accessPage } from '../../shared/protocol/operator.ts';
import type { AccessRecordShown } from '../kit/access-records.ts';
import { Child, run, runOk } from '../kit/child.ts';
import { IstioAuthority } from '../kit/istio-authority.ts';
import { createMesh, type Mesh } from '../kit/mesh.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import type { TestHost } from '../kit/netns.ts';
import { asUser, isListening } from '../kit/programs.ts';
import { attributesOf, KIND, SpanReceiver, TRACES } from '../kit/traces/span-receiver.ts';
import { waitUntil } from '../kit/wait.ts';
import { statusOf } from './never-down/upgraded.ts';
import { python } from './traffic/traffic-mesh.ts';

/**
 * A host of ours beside a node of another mesh: `store` has an agent, `node` speaks HBONE with Node's HTTP/2, its certificates from an authority of its own
 * below the same root.
 */

setDefaultTimeout(180_000);

const WEB = 'spiffe://example.org/ns/shop/sa/web';
const CART = 'spiffe://example.org/ns/shop/sa/cart';
const WEB_USER = 7400;
const OTHER_USER = 7401;
const [HTTP_PORT, ECHO_PORT, STRANGE_PORT, HTTP2_PORT] = [8080, 8081, 8082, 8084];
/** As the peer's program has it in each CONNECT. */
const TRACE_OF_PEER = { traceId: '0af7651916cd43dd8448eb211c80319c', parentSpanId: 'b7ad6b7169203331' };
const LARGE_BYTES = 20 * 1024 * 1024;
/** Loopback ports of `node`, and what they lead to. */
const TO = {
  http: 1001,
  echo: 1002,
  strange: 1003,
  unregistered: 1004,
  elsewhere: 1005,
  name: 1006,
  http2: 1007,
} as const;
const POLICY = join(import.meta.dirname, '../kit/policies/hbone');

interface Event {
  readonly event: string;
  readonly authority?: string;
  readonly status?: number;
  readonly code?: number;
  readonly reason?: string | null;
  readonly baggage?: string;
  readonly forwarded?: string;
}

let folder: string;
let mesh: Mesh;
let store: MeshHost;
let node: TestHost;
let istio: IstioAuthority;
let large: Buffer;
let receiver: SpanReceiver;
const children: Child[] = [];

function start(name: string, command: readonly string[]): Child {
  const child = new Child({ command, logFile: join(folder, `${name}.log`), cwd: '/' });
  children.push(child);
  return child;
}

function eventsOf(peer: Child): readonly Event[] {
  // The last line may be half written.
  return peer
    .log()
    .split('\n')
    .slice(0, -1)
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Event);
}

let peersStarted = 0;

/** Starts HBONE on `node` as somebody. */
async function startPeer(
  who: { readonly certificate: string; readonly privateKey: string },
  ...ways: readonly string[]
): Promise<Child> {
  const program = ['/usr/bin/env', 'node', join(folder, 'hbone-peer.mjs'), who.certificate, who.privateKey];
  const peer = start(`peer-${(peersStarted += 1)}`, node.in(...program, ...ways));
  const ports = ways.map((way) => (way === 'serve' ? 15_008 : Number(/^call:(\d+)/.exec(way)?.[1])));
  await peer.ready('the peer listens', async () =>
    (await Promise.all(ports.map(async (port) => await isListening(node, port)))).every(Boolean),
  );
  return peer;
}

/** Ways to everything on `store` that a peer may ask for. */
function waysToStore(): readonly string[] {
  const { ipv4 } = store.host;
  const way = (from: number, authority: string): string => `call:${from}=${ipv4}/${authority}`;
  return [
    way(TO.http, `${ipv4}:${HTTP_PORT}`),
    way(TO.http2, `${ipv4}:${HTTP2_PORT}`),
    way(TO.echo, `${ipv4}:${ECHO_PORT}`),
    way(TO.strange, `${ipv4}:${STRANGE_PORT}`),
    way(TO.unregistered, `${ipv4}:9999`),
    way(TO.elsewhere, `${node.ipv4}:${HTTP_PORT}`),
    way(TO.name, `web.shop.svc.cluster.local:${HTTP_PORT}`),
  ];
}

async function curl(port: number, path: string, ...more: readonly string[]) {
  return await run(node.in('curl', '-sS', '-m', '30', ...more, `http://127.0.0.1:${port}${path}`));
}

/** Connects from `node` to one of its ports, holds the connection, and prints what comes. */
function hold(name: string, port: number): Child {
  const text =
    'import socket,sys,time\ns=socket.create_connection(("127.0.0.1",int(sys.argv[1])))\nn=0\n' +
    'while True:\n n+=1\n s.sendall(b"line %d\\n"%n)\n d=s.recv(4096)\n' +
    ' if not d: raise SystemExit("ended")\n print(d.decode(),end="",flush=True)\n time.sleep(0.05)\n';
  return start(name, node.in('/usr/bin/python3', '-c', text, String(port)));
}

async function recordsOf(...query: readonly string[]): Promise<readonly AccessRecordShown[]> {
  const { items } = await mesh.control.picketJson(accessPage, 'audit', 'access', ...query, '--limit', '1000');
  return items;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-hbone-'));
  chmodSync(folder, 0o755);
  const built = await Bun.build({
    entrypoints: [join(import.meta.dirname, 'traffic/programs/hbone-peer.ts')],
    target: 'node',
  });
  writeFileSync(join(folder, 'hbone-peer.mjs'), (await built.outputs[0]?.text()) ?? '');
  mkdirSync(join(folder, 'svids'));
  mesh = await createMesh({ folder: join(folder, 'mesh'), trustDomain: 'example.org', hosts: 3 });
  const [, storeHost, nodeHost] = mesh.network.hosts;
  if (storeHost === undefined || nodeHost === undefined) throw new Error('The network has too few hosts');
  node = nodeHost;
  istio = await IstioAuthority.create('example.org', mesh.control.readRoot());
  receiver = await SpanReceiver.start(storeHost, folder);
  store = await mesh.joinHost(storeHost, 'store', {
    traces: TRACES,
    mesh: { hbone: { peers: [{ addresses: [node.ipv4], ports: [9000, 9001], spiffe_id: CART }] } },
  });
  await mesh.register({
    path: '/ns/shop/sa/web',
    on: store,
    selectors: [`unix:uid:${WEB_USER}`],
    listen: [String(HTTP_PORT), `${ECHO_PORT}/tcp`, String(STRANGE_PORT), `${HTTP2_PORT}/http`],
  });
  await mesh.control.picketOk('policy', 'publish', POLICY, '-m', 'hbone');
  const web = python('hbone-web.py', String(HTTP_PORT), String(ECHO_PORT));
  start('web', storeHost.in(...asUser(WEB_USER, ...web)));
  const files = join(folder, 'files');
  mkdirSync(files);
  large = randomBytes(LARGE_BYTES);
  writeFileSync(join(files, 'large'), large);
  start('http2', storeHost.in(...asUser(WEB_USER, 'nghttpd', '--no-tls', '-d', files, String(HTTP2_PORT))));
  // Somebody else listens where the workload is registered.
  const other = python('hbone-web.py', String(STRANGE_PORT), '8083');
  start('strange', storeHost.in(...asUser(OTHER_USER, ...other)));
  await waitUntil('the services listen', async () =>
    (
      await Promise.all(
        [HTTP_PORT, ECHO_PORT, STRANGE_PORT, HTTP2_PORT].map(
          async (port) => await isListening(storeHost, port),
        ),
      )
    ).every(Boolean),
  );
});

afterAll(async () => {
  for (const child of children) await child.stop('SIGKILL');
  await receiver?.stop();
  await mesh.remove();
  rmSync(folder, { recursive: true, force: true });
});

describe('HBONE of another mesh', () => {
  let cart: { readonly certificate: string; readonly privateKey: string };
  let peer: Child;
  beforeAll(async () => {
    cart = await istio.issue(CART, join(folder, 'svids'));
    peer = await startPeer(cart, ...waysToStore());
    await waitUntil('a request passes', async () => (await curl(TO.http, '/first')).stdout.includes(CART));
  });

  test('each request within is decided by itself, and the application is told who calls', async () => {
    const { stdout } = await curl(TO.http, '/hello');
    expect(stdout).toContain(`/hello By=${WEB}`);
    expect(stdout).toContain(`URI=${CART}`);
    const refused = await curl(TO.http, '/refused?token=secret', '-w', '%{http_code}');
    expect(refused.stdout).toContain('"reason":"policy_deny"');
    expect(refused.stdout).toEndWith('403');
    const records = await waitUntil('both are recorded', async () => {
      const all = await recordsOf('--target', WEB, '--caller', CART);
      return ['/hello', '/refused?token=*'].every((path) => all.some((each) => each.path === path)) && all;
    });
    const of = (path: string) => records.find((each) => each.path === path);
    expect(of('/hello')).toMatchObject({ direction: 'inbound', decision: 'allow', protocol: 'http' });
    // The host that was seen; of the port the peer's word.
    expect(of('/refused?token=*')).toMatchObject({ decision: 'deny', source: `${node.ipv4}:41000` });
  });

  test('HTTP/2 within is decided stream by stream', async () => {
    const into = join(folder, 'got');
    const ask = async (path: string, to: string) =>
      (await curl(TO.http2, path, '--http2-prior-knowledge', '-o', to, '-w', '%{http_code}')).stdout;
    expect([await ask('/large', into), await ask('/refused', '/dev/null')]).toEqual(['200', '403']);
    expect(readFileSync(into).equals(large)).toBe(true);
  });

  test('carries bytes and ends of both directions, many at once on one connection of TLS', async () => {
    const text = `seq 60 | xargs -P 30 -I{} sh -c 'head -c 300000 /dev/zero | timeout 60 nc -N 127.0.0.1 ${TO.echo} | wc -c'`;
    const sizes = (await runOk(node.in('sh', '-c', text))).trim().split('\n');
    expect(sizes).toEqual(Array.from({ length: 60 }, () => '300004'));
    expect(eventsOf(peer).filter(({ event }) => event === 'session')).toHaveLength(1);
    expect(eventsOf(peer).find(({ status }) => status === 200)?.baggage).toBe(
      'k8s.namespace.name=shop,service.name=web',
    );
  });

  test('a connection goes on in the trace that its CONNECT names, and so does its record', async () => {
    await runOk(node.in('sh', '-c', `echo hi | timeout 20 nc -N 127.0.0.1 ${TO.echo}`));
    const span = await receiver.findWith({ 'picket.caller_spiffe_id': CART, 'server.port': ECHO_PORT });
    expect(span).toMatchObject({ ...TRACE_OF_PEER, name: 'connection', kind: KIND.server });
    const id = attributesOf(span)['picket.decision_id'];
    const record = await waitUntil('it is recorded', async () =>
      (await recordsOf('--target', WEB, '--caller', CART)).find(({ decision_id }) => decision_id === id),
    );
    expect(record).toMatchObject({ trace_id: TRACE_OF_PEER.traceId, decision: 'allow', protocol: 'tcp' });
  });

  test.each([
    ['a port that nobody registered', TO.unregistered, 503, 'listener_not_registered'],
    ['a port at which somebody else listens', TO.strange, 503, 'listener_unidentified'],
    ['an address that is not ours', TO.elsewhere, 400, 'listener_not_registered'],
    ['a name', TO.name, 503, 'listener_not_registered'],
  ])('answers who asks for %s, and records it', async (_, port, status, reason) => {
    const before = eventsOf(peer).length;
    expect((await curl(port, '/')).exitCode).not.toBe(0);
    const answer = eventsOf(peer)
      .slice(before)
      .find(({ event }) => event === 'answer');
    expect(answer).toMatchObject({ status, reason });
    await waitUntil('it is recorded', async () =>
      (await recordsOf('--caller', CART, '--decision', 'deny')).some((each) => each.reason === reason),
    );
    expect((await curl(TO.http, '/after')).exitCode).toBe(0);
  });

  test('a workload that the policy does not know is refused as a connection, or request by request', async () => {
    const stranger = await istio.issue('spiffe://example.org/ns/shop/sa/stranger', join(folder, 'svids'));
    const { ipv4 } = store.host;
    const peerOfStranger = await startPeer(
      stranger,
      `call:1101=${ipv4}/${ipv4}:${ECHO_PORT}`,
      `call:1102=${ipv4}/${ipv4}:${HTTP_PORT}`,
    );
    expect((await curl(1101, '/')).exitCode).not.toBe(0);
    expect(eventsOf(peerOfStranger).find(({ event }) => event === 'answer')).toMatchObject({
      status: 401,
      reason: 'policy_deny',
    });
    expect((await curl(1102, '/hello')).stdout).toContain('policy_deny');
  });

  test('nobody gets in whose root is not ours, or who is an agent', async () => {
    const { ipv4 } = store.host;
    const foreign = await IstioAuthority.create('example.org');
    const abroad = await IstioAuthority.create('elsewhere.org');
    const whos = [
      await foreign.issue('spiffe://example.org/ns/shop/sa/forged', join(folder, 'svids')),
      await abroad.issue('spiffe://elsewhere.org/ns/shop/sa/cart', join(folder, 'svids')),
      await istio.issue('spiffe://example.org/picket/agent/join-token/store', join(folder, 'svids')),
    ];
    for (const [i, who] of whos.entries()) {
      const port = 1200 + i;
      const refused = await startPeer(who, `call:${port}=${ipv4}/${ipv4}:${HTTP_PORT}`);
      expect((await curl(port, '/hello')).exitCode).not.toBe(0);
      expect(eventsOf(refused).filter(({ event }) => event === 'answer')).toEqual([]);
    }
  });

  test('a change of policy cuts the stream that lost its permit, and no other', async () => {
    const echo = hold('echo', TO.echo);
    await waitUntil('bytes pass', () => echo.log().includes('line 5'));
    const sessions = eventsOf(peer).filter(({ event }) => event === 'session').length;
    const without = join(folder, 'policy');
    mkdirSync(without, { recursive: true });
    const text = await Bun.file(join(POLICY, 'policy.rego')).text();
    writeFileSync(join(without, 'policy.rego'), text.replace('== 8081', '== 1'));
    await mesh.control.picketOk('policy', 'publish', without, '-m', 'no bytes');
    await waitUntil('it is cut', () => !echo.isRunning);
    expect(echo.log()).toContain('Connection reset by peer');
    expect(eventsOf(peer).findLast(({ event }) => event === 'stream_closed')?.code).toBe(10);
    expect((await curl(TO.http, '/still')).stdout).toContain('/still');
    expect(eventsOf(peer).filter(({ event }) => event === 'session')).toHaveLength(sessions);
    await mesh.control.picketOk('policy', 'publish', POLICY, '-m', 'hbone');
    await waitUntil('bytes pass again', async () => {
      const { stdout } = await run(node.in('sh', '-c', `echo hi | timeout 20 nc -N 127.0.0.1 ${TO.echo}`));
      return stdout.includes('bye');
    });
  });

  test('a caller in quarantine is cut and refused until it is lifted', async () => {
    const echo = hold('held', TO.echo);
    await waitUntil('bytes pass', () => echo.log().includes('line 5'));
    await mesh.control.picketOk('quarantine', 'add', CART, '--reason', 'a test');
    await waitUntil('it is cut', () => !echo.isRunning);
    await waitUntil('a new one is refused', async () => {
      await curl(TO.echo, '/');
      return eventsOf(peer).findLast(({ event }) => event === 'answer')?.reason === 'quarantined';
    });
    expect(eventsOf(peer).findLast(({ event }) => event === 'answer')?.status).toBe(401);
    await mesh.control.picketOk('quarantine', 'lift', CART);
    await waitUntil('it passes again', async () => (await curl(TO.http, '/again')).stdout.includes(CART));
  });

  test('where two identities have listeners nobody is answered, until there is one again', async () => {
    const { ipv4 } = store.host;
    const id = await mesh.register({
      path: '/ns/shop/sa/second',
      on: store,
      selectors: [`unix:uid:${OTHER_USER}`],
      listen: ['8083'],
    });
    // Whoever is connected already is spoken to by the one that there was.
    await waitUntil('there are two', async () => (await statusOf(store)).hbone.callable.length === 2);
    const fresh = await startPeer(cart, `call:1301=${ipv4}/${ipv4}:${HTTP_PORT}`);
    expect((await curl(1301, '/x')).exitCode).not.toBe(0);
    await mesh.control.picketOk('entry', 'delete', id);
    await waitUntil('it is let in', async () => (await curl(1301, '/x')).stdout.includes(CART));
    expect(eventsOf(fresh).some(({ event }) => event === 'session_error')).toBe(true);
  });

  test('an agent that stops tells the peer to go away', async () => {
    await store.stop();
    await waitUntil('the peer is told', () => eventsOf(peer).some(({ event }) => event === 'goaway'));
    await store.start();
    await waitUntil('requests pass again', async () => (await curl(TO.http, '/back')).stdout.includes(CART));
  });
});

describe('HBONE to another mesh', () => {
  const call = async (...command: readonly string[]) =>
    await run(store.host.in(...asUser(WEB_USER, ...command)));
  const get = async (port: number, path: string) =>
    await call('curl', '-sS', '-m', '30', `http://${node.ipv4}:${port}${path}`);
  let server: Child;
  beforeAll(async () => {
    server = await startPeer(await istio.issue(CART, join(folder, 'svids')), 'serve');
    start('cart', node.in(...python('hbone-web.py', '9000', '9001')));
    await waitUntil('the cart listens', async () => await isListening(node, 9001));
    await waitUntil('a request passes', async () => (await get(9000, '/first')).exitCode === 0);
  });

  test('a program reaches a workload that the configuration names, as itself', async () => {
    expect((await get(9000, '/hello')).stdout).toBe('/hello nobody\n');
    const asked = eventsOf(server).findLast(({ event }) => event === 'asked');
    expect(asked).toMatchObject({
      authority: `${node.ipv4}:9000`,
      baggage: 'k8s.namespace.name=shop,service.name=web',
    });
    expect(asked?.forwarded).toStartWith(`for="${store.host.ipv4}:`);
    const text = `seq 40 | xargs -P 20 -I{} sh -c 'head -c 300000 /dev/zero | timeout 60 nc -N ${node.ipv4} 9001 | wc -c'`;
    const sizes = (await call('sh', '-c', text)).stdout.trim().split('\n');
    expect(sizes).toEqual(Array.from({ length: 40 }, () => '300004'));
  });

  test('what is not served there breaks, what is not named is refused, and nothing leaves in plaintext', async () => {
    const asked = (): number => eventsOf(server).filter(({ event }) => event === 'asked').length;
    const before = asked();
    expect((await get(9999, '/')).exitCode).not.toBe(0);
    expect(asked()).toBe(before);
    const why = await store.picket(['why', '--json']);
    expect(why.stdout).toContain('target_unknown');
    const other = await run(
      store.host.in(...asUser(OTHER_USER, 'curl', '-sS', '-m', '10', `http://${node.ipv4}:9000/`)),
    );
    expect(other.exitCode).not.toBe(0);
    expect(asked()).toBe(before);
  });

  test('whoever answers with another identity gets nothing', async () => {
    await server.stop('SIGKILL');
    const impostor = await istio.issue('spiffe://example.org/ns/shop/sa/impostor', join(folder, 'svids'));
    const other = await startPeer(impostor, 'serve');
    // The first request may be lost with the connection to who was there before.
    await waitUntil('it is refused for that', async () => {
      expect((await get(9000, '/secret')).exitCode).not.toBe(0);
      const denied = await recordsOf('--caller', WEB, '--decision', 'deny');
      return denied.some(({ reason }) => reason === 'target_untrusted');
    });
    expect(eventsOf(other).filter(({ event }) => event === 'asked')).toEqual([]);
  });
});
