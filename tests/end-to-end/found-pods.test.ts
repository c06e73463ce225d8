import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { run, runOk, type Child } from '../kit/child.ts';
import { CniNetwork } from '../kit/cni.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import type { TestHost } from '../kit/netns.ts';
import type { TestPod } from '../kit/pods.ts';
import { askAt, backIn, frontIn, nginxOf, POD_ADDRESSES, POD_USER, PodsMesh } from '../kit/pods-mesh.ts';
import type { CurlAnswer } from '../kit/programs.ts';
import { waitUntil } from '../kit/wait.ts';
import { eventsOf } from '../kit/witnesses.ts';
import { statusOf } from './never-down/upgraded.ts';

/**
 * Pods that nobody names: those that CNI plug-ins make on `desk`, found in a folder and reached at what the host's routes say. On `store` is an nginx. The tests follow each other.
 */

setDefaultTimeout(120_000);

const MOST = 4;
/** Advertises, past the rules, that an address of IPv6 is on this side: python3 -c … ADDRESS. */
const ADVERTISE = `
import socket, struct, sys
prefix = socket.inet_pton(socket.AF_INET6, sys.argv[1])
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.SOL_SOCKET, 36, 0x5049)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
on_link = struct.pack("!BBBBIII16s", 3, 4, 128, 0x80, 1800, 1800, 0, prefix)
s.sendto(advertisement + on_link, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
`;

const prefix = `cni-pk${process.pid}`;
let pods: PodsMesh;
let cni: CniNetwork;
let desk: MeshHost;
let store: MeshHost;
let front: TestPod;
let back: TestPod;
let nginxOfBack: Child;
let backEntry: string | undefined;

beforeAll(async () => {
  pods = await PodsMesh.open();
  cni = new CniNetwork(pods.network, join(pods.folder, 'cni'));
  const found = { name: 'pods', pattern: `${prefix}-*`, addresses_in: POD_ADDRESSES, most: MOST };
  ({ desk, store } = await pods.join({
    host: pods.deskHost,
    settings: { capture: { namespaces: [found] } },
    workloads: [frontIn('pods')],
  }));
}, 180_000);
afterAll(async () => await pods.close());

async function makePod(name: string): Promise<TestPod> {
  const pod = await cni.createPod(`${prefix}-${name}`);
  pods.defer(async () => await pod.remove().catch(() => undefined));
  return pod;
}

/** There is one `/back` at a time. */
async function registerBack(pod: TestPod): Promise<void> {
  if (backEntry !== undefined) await pods.control.picketOk('entry', 'delete', backEntry);
  backEntry = await pods.mesh.register({ ...backIn('pods', pod), on: desk });
}

async function ask(from: TestHost, address: string): Promise<CurlAnswer> {
  return await askAt(from, address, { seconds: 3 });
}

async function findPod({ name }: TestPod): Promise<StatusAnswer['namespaces'][number] | undefined> {
  return (await statusOf(desk)).namespaces.find((each) => each.name === `pods/${name}`);
}

/** The name of the host's end of the pair behind which a pod is. */
async function findPort({ ipv4 }: TestPod): Promise<string> {
  const [, port] = /dev (\S+)/.exec(await pods.deskHost.runOk('ip', 'route', 'show', ipv4)) ?? [];
  if (port === undefined) throw new Error(`The host has no route to ${ipv4}`);
  return port;
}

describe('pods that CNI plug-ins make', () => {
  test('are captured in a fraction of a second, and are closed until then', async () => {
    process.kill(desk.pid, 'SIGSTOP');
    front = await makePod('front');
    // Nobody has been in it yet: what it sends meets the rules of the host.
    expect((await ask(front, store.host.ipv4)).status).toBe(0);
    process.kill(desk.pid, 'SIGCONT');
    await waitUntil('it reaches the other host', async () => {
      return (await ask(front, store.host.ipv4)).body.includes('URI=spiffe://example.org/front');
    });
    back = await makePod('back');
    const madeMs = Date.now();
    const [line] = await waitUntil('it is captured', () => {
      const lines = eventsOf(desk.log(), 'namespace_captured').filter((each) => each.includes(back.name));
      return lines.length > 0 && lines;
    });
    const { ts } = JSON.parse(line ?? '{}') as { readonly ts: string };
    // Of which most is that of nft.
    expect(Date.parse(ts) - madeMs).toBeLessThan(4000);
  });

  test('have the addresses that the routes of the host lead to', async () => {
    await waitUntil('both are known', async () => (await findPod(back))?.addresses.length === 2);
    expect((await findPod(back))?.addresses.toSorted()).toEqual([back.ipv4, back.ipv6].toSorted());
    expect(await findPod(front)).toMatchObject({ label: 'pods', isFound: true, state: 'captured' });
    expect(await desk.picketOk('agent', 'status')).toContain('pods 2 captured');
    expect((await desk.examine()).outcomes['agent namespaces']).toBe('ok');
  });

  test('reach each other as the workloads that they are, and are reached from other hosts once their addresses are confirmed', async () => {
    await registerBack(back);
    nginxOfBack = await pods.serve(back, 'back');
    await waitUntil('it answers', async () => (await ask(front, back.ipv4)).status === 200);
    for (const address of [back.ipv4, back.ipv6]) {
      const { body } = await ask(front, address);
      expect([body.includes('at=back'), body.includes('URI=spiffe://example.org/front')]).toEqual([
        true,
        true,
      ]);
    }
    await pods.confirm(back.ipv4);
    await waitUntil('it is reached', async () => (await ask(store.host, back.ipv4)).status === 200);
  });

  test('earn nothing but what is registered for their label', async () => {
    expect((await ask(desk.host, back.ipv4)).body).not.toContain('at=');
    await runOk(['ip', 'netns', 'add', `other-${prefix}`]);
    pods.defer(async () => await run(['ip', 'netns', 'del', `other-${prefix}`]));
    expect((await statusOf(desk)).namespaces).toHaveLength(2);
  });

  test('leave the gateway to the host: an address of its own in their network is not closed', async () => {
    const gateway = '10.8.1.1';
    const own = await pods.serve(pods.deskHost, 'desk', { listen: [`${gateway}:80`] });
    await pods.mesh.register({ ...nginxOf('/own', [`80/http@${gateway}`]), on: desk });
    // Found, and denied by the policy.
    await waitUntil('it is found', async () => (await ask(front, gateway)).status === 403);
    await own.stop();
  });
});

describe('whoever is root in a pod', () => {
  test('takes no address of another pod: not by his interfaces, nor by an end of a pair of his own', async () => {
    const thief = await pods.serve(front, 'thief');
    for (const line of [
      `addr add ${back.ipv4}/32 dev eth0`,
      `addr add ${back.ipv6}/128 dev eth0 nodad`,
      'link add own0 type veth peer name own1',
      `route add ${back.ipv4}/32 dev lo table 77`,
    ])
      await front.runOk('ip', ...line.split(' '));
    expect((await ask(store.host, back.ipv4)).body).toContain('at=back');
    await nginxOfBack.stop();
    await back.remove();
    await waitUntil('it is forgotten', async () => (await findPod(back)) === undefined);
    for (const address of [back.ipv4, back.ipv6]) {
      expect((await ask(store.host, address)).body).not.toContain('at=');
      expect((await ask(desk.host, address)).body).not.toContain('at=');
    }
    await thief.stop();
  });

  test('takes none by advertising himself as a router to the host, though the host believes him', async () => {
    const thief = await pods.serve(front, 'thief');
    const port = await findPort(front);
    await pods.deskHost.runOk('sysctl', '-qw', `net.ipv6.conf.${port}.accept_ra=2`);
    await waitUntil('the host has the route', async () => {
      await front.runOk('python3', '-c', ADVERTISE, back.ipv6);
      return (await pods.deskHost.runOk('ip', '-6', 'route', 'show', 'dev', port)).includes(back.ipv6);
    });
    expect((await findPod(front))?.addresses.toSorted()).toEqual([front.ipv4, front.ipv6].toSorted());
    expect((await ask(store.host, back.ipv6)).body).not.toContain('at=');
    expect((await ask(desk.host, back.ipv6)).body).not.toContain('at=');
    await pods.deskHost.runOk('ip', '-6', 'route', 'del', `${back.ipv6}/128`, 'dev', port);
    await thief.stop();
  });

  test('gains nothing by a namespace of his own, into which he takes his interface', async () => {
    const { ipv4, ipv6 } = front;
    const script = [
      'ip link set lo up',
      'nsenter --net=/proc/$PPID/ns/net ip link set eth0 netns $$',
      `ip addr add ${ipv4}/32 dev eth0; ip addr add ${ipv6}/128 dev eth0 nodad; ip link set eth0 up`,
      `ip route add 10.8.1.1/32 dev eth0; ip route add default via 10.8.1.1 src ${ipv4}`,
      `exec setpriv --reuid=${POD_USER} --clear-groups curl -s -m 2 http://${store.host.ipv4}/`,
    ].join('; ');
    const taken = await run(front.in('sh', '-c', `unshare -n sh -c '${script}'; true`), { cwd: '/' });
    expect(taken.stdout).not.toContain('at=');
    await waitUntil('the address leads nowhere', async () => (await findPod(front))?.addresses.length === 0);
    await front.remove();
    await waitUntil('it is forgotten', async () => (await findPod(front)) === undefined);
  });

  test('can keep his pod from being captured, and the host is ready all the same', async () => {
    const name = `${prefix}-stuck`;
    const hidden = await cni.createPod(`hidden-${name}`);
    pods.defer(async () => await hidden.remove());
    const squatter = Bun.spawn(hidden.in('python3', '-m', 'http.server', '15001', '--bind', '::'), {
      cwd: '/',
      stdout: 'ignore',
      stderr: 'ignore',
    });
    await waitUntil('somebody listens', async () => {
      return (await run(hidden.in('curl', '-sf', 'http://127.0.0.1:15001/'))).exitCode === 0;
    });
    await runOk(['touch', `/run/netns/${name}`]);
    await runOk(['mount', '--bind', hidden.path, `/run/netns/${name}`]);
    await waitUntil('it is noticed', async () => (await statusOf(desk)).namespaces[0]?.state === 'failed');
    expect(await desk.isReady()).toBe(true);
    expect((await desk.examine()).faults.join('\n')).toContain('namespaces fail: cannot be captured');
    squatter.kill('SIGKILL');
    await squatter.exited;
    await waitUntil('it is captured', async () => (await statusOf(desk)).namespaces[0]?.state === 'captured');
    await runOk(['ip', 'netns', 'del', name]);
    await waitUntil('it is let go', async () => (await statusOf(desk)).namespaces.length === 0);
  });
});

describe('pods that come and go', () => {
  test('are others each time, also under the name and at the address of one that went', async () => {
    const first = await makePod('again');
    await registerBack(first);
    let served = await pods.serve(first, 'first');
    front = await makePod('front');
    await waitUntil('it answers', async () => (await ask(front, first.ipv4)).status === 200);
    await served.stop();
    await first.remove();
    const second = await makePod('again');
    served = await pods.serve(second, 'second');
    expect(second.name).toBe(first.name);
    expect(second.ipv4).not.toBe(first.ipv4);
    await waitUntil('the new one is there', async () => {
      return (await findPod(second))?.addresses.includes(second.ipv4) === true;
    });
    // The address of the first is nobody's now, and the second is registered nowhere.
    expect((await ask(front, first.ipv4)).body).not.toContain('at=');
    expect((await ask(front, second.ipv4)).body).not.toContain('at=');
    await registerBack(second);
    await waitUntil('it answers', async () => (await ask(front, second.ipv4)).body.includes('at=second'));
    await served.stop();
    await second.remove();
  });

  test('are captured up to a number, and those beyond are closed and told of', async () => {
    const many = Array.from({ length: 6 }, (_, index) => `${prefix}-many${index}`);
    for (const name of many) {
      await runOk(['ip', 'netns', 'add', name]);
      pods.defer(async () => await run(['ip', 'netns', 'del', name]));
    }
    await waitUntil('they are counted', async () => (await statusOf(desk)).namespacesBeyond['pods'] === 3);
    const { namespaces } = await statusOf(desk);
    expect(namespaces.map(({ name }) => name)).toContain(`pods/${front.name}`);
    await waitUntil('the others are captured', async () => {
      const states = (await statusOf(desk)).namespaces.map(({ state }) => state);
      return states.length === MOST && states.every((state) => state === 'captured');
    });
    expect((await desk.examine()).faults.join('\n')).toContain('3 of pods');
    expect(await pods.deskHost.runOk('curl', '-s', 'http://127.0.0.1:15020/metrics')).toContain(
      'picket_namespaces{state="beyond"} 3',
    );
    // Who was there before is served as before.
    expect((await ask(front, store.host.ipv4)).status).toBe(200);
    for (const name of many) await runOk(['ip', 'netns', 'del', name]);
    await waitUntil('all is well', async () => {
      const { namespaces: left, namespacesBeyond } = await statusOf(desk);
      return left.length === 1 && Object.keys(namespacesBeyond).length === 0;
    });
  });

  test('are closed while the agent is dead, and are captured by the next one; their rules go with those of the host', async () => {
    await desk.stop('SIGKILL');
    const later = await makePod('later');
    const asked = await Promise.all([front, later].map(async (pod) => await ask(pod, store.host.ipv4)));
    expect(asked.map(({ status }) => status)).toEqual([0, 0]);
    await desk.start();
    for (const pod of [front, later])
      await waitUntil('it passes', async () => (await ask(pod, store.host.ipv4)).status === 200);
    await desk.stop();
    await desk.picketOk('agent', 'capture', 'remove');
    for (const pod of [front, later]) expect(await pod.runOk('nft', 'list', 'ruleset')).toBe('');
  });
});
