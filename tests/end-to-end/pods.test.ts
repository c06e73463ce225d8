import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage } from '../../shared/protocol/operator.ts';
import type { AccessRecordShown } from '../kit/access-records.ts';
import { Child, run, runOk } from '../kit/child.ts';
import { holdConnection, type HeldConnection } from '../kit/held-connection.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import { endListener } from '../kit/netns.ts';
import { createPod, podAddresses, type TestPod } from '../kit/pods.ts';
import { askAt, awaitRules, backIn, frontIn, nginxOf, POD_USER, PodsMesh } from '../kit/pods-mesh.ts';
import { waitUntil } from '../kit/wait.ts';
import { eventsOf } from '../kit/witnesses.ts';
import { askThroughout, expectAnsweredOnce } from './never-down/asked-throughout.ts';
import { awaitDraining, awaitEnd, statusOf } from './never-down/upgraded.ts';

/**
 * One agent for a host and its pods. On `desk` live the pods `front`, which calls, and `back`, which has nginx at the same port as the host itself; on `store` is another nginx. The tests follow each
 * other.
 */

setDefaultTimeout(120_000);

const STRANGER = 7003;
const LAST = { front: 2, back: 3, stuck: 4, unknown: 5 } as const;
/** A program that takes a socket of one namespace with it into another, and connects it there: python3 -c … NAMESPACE-OF-THE-SOCKET NAMESPACE-TO-LIVE-IN USER ADDRESS. */
const CARRIER = `
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def enter(path):
    if libc.setns(os.open(path, os.O_RDONLY), 0x40000000) != 0: raise OSError(ctypes.get_errno())
enter(sys.argv[1]); s = socket.socket(); s.settimeout(10)
enter(sys.argv[2]); os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
s.connect((sys.argv[4], 80)); s.send(b"GET /carried HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(s.recv(4096).decode())
`;

const UDP_ECHO = `
import select, socket
ports = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for i, s in enumerate(ports): s.bind(("0.0.0.0", 53 + i))
while True:
    for s in select.select(ports, [], [])[0]: s.sendto(b"answered", s.recvfrom(100)[1])
`;
const UDP_QUESTION = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
try: s.sendto(b"?", (sys.argv[1], int(sys.argv[2]))); print(s.recv(100).decode())
except OSError: pass
`;

const prefix = `pk${process.pid}pod`;
let pods: PodsMesh;
let desk: MeshHost;
let store: MeshHost;
let front: TestPod;
let back: TestPod;
let nginxOfBack: Child;

beforeAll(async () => {
  pods = await PodsMesh.open();
  const { network, deskHost, outsider } = pods;
  await deskHost.runOk('sysctl', '-qw', 'net.ipv4.ip_forward=1');
  front = await makePod('front');
  back = await makePod('back');
  await pods.serve(deskHost, 'desk');
  nginxOfBack = await pods.serve(back, 'back');
  const namespaces = (['front', 'back', 'stuck'] as const).map((name) => {
    const { ipv4, ipv6 } = podAddresses(network, LAST[name]);
    return { name, path: `/run/netns/${prefix}${name}`, addresses: [ipv4, ipv6] };
  });
  ({ desk, store } = await pods.join({
    host: deskHost,
    settings: { capture: { namespaces, allow_udp: [{ address: outsider.ipv4, port: 53 }] } },
    workloads: [frontIn('front'), nginxOf('/own'), backIn('back', back)],
  }));
  for (const address of [store.host.ipv4, back.ipv4])
    await waitUntil(`a pod reaches ${address}`, async () => (await askAt(front, address)).status === 200);
}, 180_000);
afterAll(async () => await pods.close());

async function makePod(name: keyof typeof LAST): Promise<TestPod> {
  const { network } = pods;
  const pod = await createPod(`${prefix}${name}`, { network, last: LAST[name] });
  pods.defer(async () => await pod.remove());
  return pod;
}

/** The decisions on requests to a path, as the server has them. */
async function decisionsOn(path: string): Promise<readonly AccessRecordShown[]> {
  const page = await pods.control.picketJson(accessPage, 'audit', 'access', '--limit', '1000');
  return page.items.filter((each) => each.path === path);
}

async function namespaceStates(): Promise<Readonly<Record<string, string>>> {
  const { namespaces } = await statusOf(desk);
  return Object.fromEntries(namespaces.map(({ name, state }) => [name, state]));
}

describe('pods of one host', () => {
  test('reach each other as the workloads that they are, and each its own at a port that the host has as well', async () => {
    const { status, body } = await askAt(front, back.ipv4, { path: '/near' });
    expect([status, body.includes('at=back caller=')]).toEqual([200, true]);
    expect(body).toContain('URI=spiffe://example.org/front');
    const [near] = await waitUntil('it is recorded', async () => {
      const found = await decisionsOn('/near');
      return found.length > 0 && found;
    });
    expect(near).toMatchObject({
      decision: 'allow',
      caller_spiffe_id: 'spiffe://example.org/front',
      target_spiffe_id: 'spiffe://example.org/back',
      destination: `${back.ipv4}:80`,
    });
    expect((await askAt(front, back.ipv6)).body).toContain('URI=spiffe://example.org/front');
  });

  test('reach another host, and are reached from there once their addresses are confirmed', async () => {
    expect((await askAt(front, store.host.ipv4)).body).toContain('URI=spiffe://example.org/front');
    expect((await askAt(front, store.host.ipv6)).body).toContain('URI=spiffe://example.org/front');
    expect((await askAt(store.host, back.ipv4)).status).not.toBe(200);
    await pods.confirm(back.ipv4, back.ipv6);
    for (const address of [back.ipv4, back.ipv6]) {
      const answer = await waitUntil('the other host reaches the pod', async () => {
        const found = await askAt(store.host, address);
        return found.status === 200 && found;
      });
      expect(answer.body).toContain('at=back');
      expect(answer.body).toContain('URI=spiffe://example.org/remote');
    }
  });

  test('are denied what the policy does not allow, by both identities', async () => {
    expect((await askAt(front, back.ipv4, { path: '/posted', args: ['-d', 'x'] })).status).toBe(403);
    const [posted] = await waitUntil('it is recorded', async () => {
      const found = await decisionsOn('/posted');
      return found.length > 0 && found;
    });
    expect(posted).toMatchObject({
      decision: 'deny',
      reason: 'policy_deny',
      caller_spiffe_id: 'spiffe://example.org/front',
      target_spiffe_id: 'spiffe://example.org/back',
    });
  });

  test('say how they stand', async () => {
    expect(await namespaceStates()).toEqual({ front: 'captured', back: 'captured', stuck: 'absent' });
    const { outcomes } = await desk.examine();
    expect(outcomes['agent namespaces']).toBe('ok');
    expect(await desk.picketOk('agent', 'status')).toContain('front captured; back captured; stuck absent');
  });
});

describe('nobody is taken for who lives in a pod', () => {
  test('who is another user there, or the same user elsewhere', async () => {
    for (const { from, uid } of [
      { from: front, uid: STRANGER },
      { from: back, uid: POD_USER },
      { from: desk.host, uid: POD_USER },
    ]) {
      expect((await askAt(from, store.host.ipv4, { uid })).status).toBe(0);
      expect((await askAt(from, back.ipv4, { uid })).status).not.toBe(200);
    }
  });

  test('who takes a socket out of a pod, or into one', async () => {
    const carry = async (of: TestPod, into: TestPod): Promise<string> => {
      const args = [of.path, into.path, String(POD_USER), store.host.ipv4];
      return (await run(['python3', '-c', CARRIER, ...args], { cwd: '/' })).stdout;
    };
    expect(await carry(front, front)).toContain('URI=spiffe://example.org/front');
    expect(await carry(front, back)).toBe('');
    expect(await carry(back, front)).toBe('');
    expect(
      await run(['python3', '-c', CARRIER, front.path, '/proc/1/ns/net', String(POD_USER), store.host.ipv4]),
    ).toMatchObject({
      stdout: '',
    });
  });

  test('who is a service of the host: it does not serve the address of a pod, nor a pod that of the host', async () => {
    await nginxOfBack.stop();
    expect((await askAt(front, back.ipv4)).body).not.toContain('at=');
    nginxOfBack = await pods.serve(back, 'back');
    await waitUntil('it answers again', async () => (await askAt(front, back.ipv4)).status === 200);
  });
});

describe('what leaves a pod otherwise', () => {
  test('is the UDP that may leave, and nothing else, though the host forwards', async () => {
    const echo = new Child({
      command: pods.outsider.in('python3', '-c', UDP_ECHO),
      logFile: join(pods.folder, 'echo.log'),
    });
    pods.defer(async () => await echo.stop('SIGKILL'));
    const send = async (port: number): Promise<string> =>
      (
        await run(front.in('python3', '-c', UDP_QUESTION, pods.outsider.ipv4, String(port)), { cwd: '/' })
      ).stdout.trim();
    await waitUntil('it is answered', async () => (await send(53)) === 'answered');
    expect(await send(54)).toBe('');
    expect((await askAt(pods.outsider, back.ipv4, { seconds: 2 })).status).not.toBe(200);
  });
});

describe('an agent that is replaced', () => {
  test('under load, loses nothing of its pods: what is new the next one takes, what is open the old one ends', async () => {
    const held = await hold('/held');
    const ways = [
      { from: front, address: store.host.ipv4 },
      { from: front, address: back.ipv4 },
      { from: store.host, address: back.ipv4 },
    ].map((way) => ({ ...way, uid: POD_USER }));
    const prefix = '/replaced/';
    const asked = await askThroughout(ways, prefix, async () => {
      await desk.upgrade();
      await awaitDraining(desk);
      expect(await held.finish()).toContain('URI=spiffe://example.org/front');
      await awaitEnd(desk);
      await desk.upgrade();
      await awaitEnd(desk);
    });
    const targets = ['spiffe://example.org/invoices', 'spiffe://example.org/back'];
    await expectAnsweredOnce(asked, { control: pods.control, targets, prefix });
    expect(eventsOf(desk.log(), 'capture_rules_changed')).toEqual([]);
    expect(await namespaceStates()).toEqual({ front: 'captured', back: 'captured', stuck: 'absent' });
  });

  test('still cuts what a pod has open and may not any more, and leaves the rules within to the next one', async () => {
    const held = await hold('/cut');
    await desk.upgrade();
    await front.runOk('nft', 'flush', 'ruleset');
    await awaitRules(front);
    await pods.control.picketOk('quarantine', 'add', 'spiffe://example.org/front', '--reason', 'a drill');
    await awaitEnd(desk);
    expect(await held.finish()).not.toContain('URI=');
    await pods.control.picketOk('quarantine', 'lift', 'spiffe://example.org/front');
    await waitUntil('it may again', async () => (await askAt(front, store.host.ipv4)).status === 200);
    // One process alone watches them.
    expect(eventsOf(desk.log(), 'capture_rules_changed')).toHaveLength(1);
    expect(eventsOf(desk.log(), 'handover_failed')).toEqual([]);
  });

  test('by one that fails, goes on with its pods as before', async () => {
    const good = readFileSync(desk.configFile, 'utf8');
    writeFileSync(desk.configFile, good.replace(/"data_dir": "[^"]*"/, '"data_dir": "/proc/nowhere"'));
    expect((await desk.picket(['agent', 'upgrade'])).exitCode).not.toBe(0);
    writeFileSync(desk.configFile, good);
    expect(await namespaceStates()).toEqual({ front: 'captured', back: 'captured', stuck: 'absent' });
    expect((await askAt(front, back.ipv4)).status).toBe(200);
    await back.runOk('nft', 'flush', 'ruleset');
    await awaitRules(back);
  });
});

async function hold(path: string): Promise<HeldConnection> {
  return await holdConnection(front, { uid: POD_USER, address: store.host.ipv4, path });
}

describe('what is not captured is closed', () => {
  test('a pod that the agent does not know reaches nobody, and gets no further by the port of the mesh', async () => {
    const unknown = await makePod('unknown');
    const toMesh = ['curl', '-s', '-m', '2', `http://${store.host.ipv4}:15008/`];
    const [toStore, toBack, mesh] = await Promise.all([
      askAt(unknown, store.host.ipv4, { seconds: 2 }),
      askAt(unknown, back.ipv4, { seconds: 2 }),
      run(unknown.in(...toMesh), { cwd: '/' }),
    ]);
    for (const { status } of [toStore, toBack]) expect(status).not.toBe(200);
    expect(mesh).toMatchObject({ stdout: '' });
  });

  test('rules that somebody takes away within are put back, and until then the host refuses', async () => {
    const before = desk.log().length;
    await front.runOk('nft', 'flush', 'ruleset');
    // Whichever of the two comes first: nothing passes but as the workload.
    const { status, body } = await askAt(front, store.host.ipv4, { seconds: 5 });
    expect(status === 0 || body.includes('URI=spiffe://example.org/front')).toBe(true);
    await waitUntil('they are back', async () => (await askAt(front, store.host.ipv4)).status === 200);
    expect(desk.log().slice(before)).toContain('capture_rules_changed');
  });

  test('root in a pod that ends the socket of the agent closes his pod for a moment', async () => {
    await endListener(front, 15_001);
    await waitUntil('it is noticed', () => desk.log().includes('Somebody within has ended the socket'));
    await waitUntil('it reaches the other host again', async () => {
      return (await askAt(front, store.host.ipv4, { seconds: 2 })).body.includes(
        'URI=spiffe://example.org/front',
      );
    });
    expect((await namespaceStates())['front']).toBe('captured');
  });

  test('a pod in which somebody has the port of the agent is reported, and closed', async () => {
    const stuck = await createPod(`${prefix}early`, { network: pods.network, last: LAST.stuck });
    pods.defer(async () => await stuck.remove());
    const squatter = new Child({
      command: stuck.in('python3', '-m', 'http.server', '15001', '--bind', '::'),
      logFile: join(pods.folder, 'squatter.log'),
    });
    pods.defer(async () => await squatter.stop('SIGKILL'));
    await squatter.ready('somebody listens', async () => {
      return (await run(stuck.in('curl', '-sf', 'http://127.0.0.1:15001/'))).exitCode === 0;
    });
    // Only now it comes to where the agent looks for it.
    const place = `/run/netns/${prefix}stuck`;
    await runOk(['touch', place]);
    await runOk(['mount', '--bind', stuck.path, place]);
    pods.defer(async () => await run(['ip', 'netns', 'del', `${prefix}stuck`]));
    await waitUntil('it is noticed', async () => (await namespaceStates())['stuck'] === 'failed');
    expect(await desk.isReady()).toBe(false);
    expect((await desk.examine()).faults.join('\n')).toContain('namespaces fail: cannot be captured');
    expect((await askAt(stuck, store.host.ipv4, { seconds: 2 })).status).not.toBe(200);
    await squatter.stop('SIGKILL');
    await waitUntil('it is captured', async () => (await namespaceStates())['stuck'] === 'captured');
    expect(await desk.isReady()).toBe(true);
    await runOk(['ip', 'netns', 'del', `${prefix}stuck`]);
    await waitUntil('it is let go', async () => (await namespaceStates())['stuck'] === 'absent');
    expect(desk.log()).toContain('namespace_gone');
  });
});

describe('a pod that goes and comes again', () => {
  test('under load, is another namespace with the same name: captured anew, and nobody else in between', async () => {
    const isOver = new AbortController();
    const bodies: string[] = [];
    const load = (async () => {
      while (!isOver.signal.aborted) bodies.push((await askAt(front, back.ipv4, { seconds: 2 })).body);
    })();
    try {
      for (let round = 0; round < 3; round++) {
        await nginxOfBack.stop();
        await back.remove();
        await waitUntil('it is gone', async () => (await namespaceStates())['back'] === 'absent');
        expect((await askAt(store.host, back.ipv4, { seconds: 2 })).status).not.toBe(200);
        back = await makePod('back');
        nginxOfBack = await pods.serve(back, 'back');
        await waitUntil('it answers', async () => (await askAt(front, back.ipv4)).status === 200);
      }
    } finally {
      isOver.abort();
      await load;
    }
    expect(bodies.filter((body) => body.includes('at=') && !body.includes('at=back'))).toEqual([]);
    expect(bodies.some((body) => body.includes('URI=spiffe://example.org/front'))).toBe(true);
    expect((await askAt(store.host, back.ipv4)).body).toContain('URI=spiffe://example.org/remote');
  });

  test('with the agent dead, is refused; the next agent captures what is there', async () => {
    await desk.stop('SIGKILL');
    const asked = await Promise.all([
      askAt(front, store.host.ipv4, { seconds: 2 }),
      askAt(front, back.ipv4, { seconds: 2 }),
      askAt(store.host, back.ipv4, { seconds: 2 }),
    ]);
    expect(asked.map(({ status }) => status)).toEqual([0, 0, 0]);
    await desk.start();
    await waitUntil('it passes again', async () => (await askAt(front, back.ipv4)).status === 200);
  });

  test('is as before once capture is removed', async () => {
    await desk.stop();
    expect(await front.runOk('nft', 'list', 'tables')).toContain('inet picket');
    await desk.picketOk('agent', 'capture', 'remove');
    for (const each of [front, back, desk.host]) expect(await each.runOk('nft', 'list', 'ruleset')).toBe('');
  });
});
