import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { CaptureBackend } from '../../agent/capture/capture.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { accessPage } from '../../shared/protocol/operator.ts';
import { prepareCapture } from '../kit/captured-host.ts';
import { run, type Child } from '../kit/child.ts';
import { DatagramPrograms, type Sending } from '../kit/datagram-programs.ts';
import { DnsServer } from '../kit/dns.ts';
import { asUser } from '../kit/programs.ts';
import { forgeFrames } from '../kit/forged-datagrams.ts';
import type { Mesh } from '../kit/mesh.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import type { TestHost } from '../kit/netns.ts';
import { createPod, podAddresses, type PodNetwork, type TestPod } from '../kit/pods.ts';
import { POD_ADDRESSES, POD_USER as USER, PodsMesh } from '../kit/pods-mesh.ts';
import { waitUntil } from '../kit/wait.ts';
import { awaitEnd, statusOf } from './never-down/upgraded.ts';

/**
 * UDP that pods send out of the mesh, decided by the policy: `front` is a workload, `back` is none. One host has its pods by name and carries them itself, one finds them by a pattern, is captured by eBPF and has two
 * workers. The tests follow each other.
 */

setDefaultTimeout(60_000);

const STRANGER = 7003;
const ROOT = 0;
/** Of the host's own program that the policy allows the same. */
const ON_HOST = 7005;
const POLICIES = join(import.meta.dirname, '../kit/policies');
const ALLOWED = 9000;
const OTHER = 9001;
/** The resolver of a cluster: no machine has its address, which the host translates. */
const CLUSTER_DNS = '10.96.0.10';
const CLUSTER_DNS_PORT = 5300;
const LAST = { front: 2, back: 3, bridged: 9 } as const;
const WEB = 'spiffe://example.org/web';

type Asking = Partial<Sending> & { readonly uid?: number };

interface Variant {
  readonly backend: CaptureBackend;
  readonly workers: number;
  readonly by: 'name' | 'pattern';
}
const VARIANTS: readonly Variant[] = [
  { backend: 'nftables', workers: 1, by: 'name' },
  { backend: 'ebpf', workers: 2, by: 'pattern' },
];

/** Somebody has the group of NFLOG at which the agent is asked. */
const SQUATTER = `
import socket, struct, time
own = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
body = struct.pack('!BBH', 0, 0, 0x5049) + struct.pack('HHBxxx', 5, 1, 1)
own.send(struct.pack('IHHII', 16 + len(body), 0x401, 5, 1, 0) + body)
print('error', struct.unpack_from('i', own.recv(1024), 16)[0])
time.sleep(600)
`;

describe.each(VARIANTS)('UDP of pods found by $by, captured by $backend, workers: $workers', (variant) => {
  const { backend, workers, by } = variant;
  const prefix = `pk${process.pid}udp${workers}`;
  const stack = new AsyncDisposableStack();
  let folder: string;
  let mesh: Mesh;
  let network: PodNetwork;
  let desk: MeshHost;
  let outsider: TestHost;
  let front: TestPod;
  let back: TestPod;
  let programs: DatagramPrograms;
  let echo: Child;

  beforeAll(async () => {
    const pods = await PodsMesh.open();
    stack.defer(async () => await pods.close());
    ({ folder, mesh, network, outsider } = pods);
    const { deskHost } = pods;
    for (const setting of ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'])
      await deskHost.runOk('sysctl', '-qw', `${setting}=1`);
    // What stands between the pods here is the agent's.
    for (const at of ['all', 'default'])
      await deskHost.runOk('sysctl', '-qw', `net.ipv4.conf.${at}.rp_filter=0`);
    const settings = {
      proxy: { workers },
      egress: { udp: 'policy', resolvers: [`${outsider.ipv4}:53`, `${CLUSTER_DNS}:53`] },
      capture: { namespaces: (['front', 'back', 'bridged'] as const).map(namespaceOf) },
    };
    const captured = await prepareCapture(deskHost, { backend, settings }, stack);
    front = await makePod('front', captured.host);
    back = await makePod('back', captured.host);
    desk = await mesh.joinHost(captured.host, 'desk', captured.settings);
    await mesh.register({ path: '/web', on: desk, selectors: [`unix:uid:${USER}`, 'netns:name:front'] });
    await mesh.register({ path: '/web', on: desk, selectors: [`unix:uid:${ON_HOST}`] });
    await mesh.register({ path: '/web', on: desk, selectors: [`unix:uid:${USER}`, 'netns:name:bridged'] });
    programs = new DatagramPrograms(join(folder, 'udp'));
    echo = await programs.serve(outsider, ALLOWED, OTHER);
    stack.defer(async () => void (await echo.stop()));
    await publish('udp');
    await waitUntil('a pod is answered', async () => (await ask(front)) === 'answered 0');
  }, 180_000);
  afterAll(async () => await stack.disposeAsync());

  function namespaceOf(name: keyof typeof LAST): Record<string, unknown> {
    const { ipv4, ipv6 } = podAddresses(network, LAST[name]);
    return by === 'name'
      ? { name, path: `/run/netns/${prefix}${name}`, addresses: [ipv4, ipv6] }
      : { name, pattern: `${prefix}${name}*`, addresses_in: POD_ADDRESSES, most: 4 };
  }

  async function makePod(name: keyof typeof LAST, host: TestHost): Promise<TestPod> {
    const pod = await createPod(`${prefix}${name}`, { network, last: LAST[name] });
    stack.defer(async () => await pod.remove());
    return { ...pod, in: (...command) => host.in(...pod.in(...command)) };
  }

  async function ask(from: Pick<TestHost, 'in'>, { uid = USER, ...sending }: Asking = {}): Promise<string> {
    return await programs.ask(from, uid, { to: outsider.ipv4, port: ALLOWED, ...sending });
  }

  async function askPatiently(
    from: Pick<TestHost, 'in'>,
    { uid = USER, ...sending }: Asking = {},
  ): Promise<string> {
    return await programs.askPatiently(from, uid, { to: outsider.ipv4, port: ALLOWED, ...sending });
  }

  function goOn(name: string, sending: Partial<Sending> = {}): Child {
    return programs.goOn(front, USER, { to: outsider.ipv4, port: ALLOWED, ...sending, name });
  }

  function goOnPatiently(name: string, sending: Partial<Sending> = {}): Child {
    return programs.goOnPatiently(front, USER, { to: outsider.ipv4, port: ALLOWED, ...sending, name });
  }

  async function publish(policy: string): Promise<void> {
    await mesh.control.picketOk('policy', 'publish', join(POLICIES, policy), '-m', policy);
  }

  async function records(): Promise<readonly AccessRecord[]> {
    const page = await mesh.control.picketJson(accessPage, 'audit', 'access', '--limit', '200');
    return page.items.filter(({ protocol }) => protocol === 'udp');
  }

  /** Programs that write datagrams themselves, as root of a pod, past the rules within, as if they were of a flow of `front`. */
  async function forge(
    from: TestPod,
    { sourcePort, text }: { readonly sourcePort: number; readonly text: string },
  ): Promise<void> {
    const last = from === front ? LAST.front : LAST.back;
    const told = await network.host.runOk('ip', '-o', 'link', 'show', `pod${last}`);
    const neighbour = /link\/ether (\S+)/.exec(told)?.[1] ?? '';
    const program = forgeFrames({
      from: { address: front.ipv4, port: sourcePort },
      to: { address: outsider.ipv4, port: ALLOWED },
      text,
      neighbour,
    });
    const forging = programs.run(from, ROOT, { name: `forge-${text}`, program });
    await waitUntil('all is forged', () => forging.log().includes('forged'));
    await forging.stop();
  }

  test('an allowed flow is answered from its first datagram on, by both families, and stands in the record as the pod’s', async () => {
    for (const to of [outsider.ipv4, outsider.ipv6])
      for (const size of [8, 20_000])
        expect([to, size, await askPatiently(front, { to, size })]).toEqual([to, size, 'answered 0']);
    const found = await waitUntil('it stands in the record', async () =>
      (await records()).find(({ decision }) => decision === 'allow'),
    );
    expect(found).toMatchObject({ caller_spiffe_id: WEB, direction: 'outbound', reason: 'policy_allow' });
    expect(found.source).toMatch(new RegExp(`^(${front.ipv4}:|\\[${front.ipv6}\\])`));
    const { udp } = await statusOf(desk);
    expect(udp).toMatchObject({ isHearing: true, deafIn: [] });
  });

  test('every program of a pod may ask the resolvers, by UDP and TCP, those too that the host leads elsewhere', async () => {
    const translation = `table ip cluster { chain lead { type nat hook prerouting priority dstnat; ip daddr ${CLUSTER_DNS} meta l4proto { tcp, udp } th dport 53 dnat to ${outsider.ipv4}:${CLUSTER_DNS_PORT}; }; }`;
    await network.host.runOk('nft', translation);
    const start = async (port: number, address: string): Promise<DnsServer> => {
      const own = join(folder, `dns-${port}`);
      mkdirSync(own);
      return await DnsServer.start({
        folder: own,
        address: outsider.ipv4,
        port,
        records: { 'api.partner.test': [address] },
        within: (...words) => outsider.in(...words),
      });
    };
    const servers = [await start(53, '192.0.2.7'), await start(CLUSTER_DNS_PORT, '192.0.2.8')];
    try {
      for (const [server, answer] of [
        [outsider.ipv4, '192.0.2.7'],
        [CLUSTER_DNS, '192.0.2.8'],
      ] as const)
        for (const by of ['udp', 'tcp']) {
          const question = ['/usr/bin/python3', programs.script, 'resolve', server, 'api.partner.test', by];
          const { stdout } = await run(back.in(...asUser(STRANGER, ...question)), { cwd: '/' });
          expect([server, by, stdout.trim()]).toEqual([server, by, answer]);
        }
      // Where it is led to is no resolver by itself.
      expect(await ask(back, { uid: STRANGER, port: CLUSTER_DNS_PORT })).toBe('silence 0');
    } finally {
      for (const server of servers) await server.stop();
      await network.host.runOk('nft', 'delete', 'table', 'ip', 'cluster');
    }
  });

  test('nobody else’s is: another pod’s, another user’s there, the host’s; nor what the policy does not allow', async () => {
    const denied = await Promise.all([
      ask(back),
      ask(front, { uid: STRANGER }),
      ask(desk.host),
      ask(front, { port: OTHER }),
    ]);
    expect(denied as readonly string[]).toEqual(denied.map(() => 'silence 0'));
    expect(echo.log()).not.toContain(`got ${OTHER}`);
    expect(await askPatiently(desk.host, { uid: ON_HOST })).toBe('answered 0');
    // What was asked before the policy was in force stands there as well.
    await waitUntil('the denials stand in the record', async () => {
      const found = (await records())
        .filter(({ decision }) => decision === 'deny')
        .map(({ source, destination, caller_spiffe_id: id }) => {
          const [from, port] = [source.split(':')[0], destination.split(':').at(-1)];
          return `${from} ${port} ${id}`;
        });
      return [
        `${back.ipv4} ${ALLOWED} null`,
        `${front.ipv4} ${ALLOWED} null`,
        `${desk.host.ipv4} ${ALLOWED} null`,
        `${front.ipv4} ${OTHER} ${WEB}`,
      ].every((each) => found.includes(each));
    });
  });

  test('a flow is of its namespace: another pod gets nothing into it by its address and port, whoever is root there', async () => {
    const sourcePort = 40_123;
    const sender = goOnPatiently('forged', { sourcePort });
    try {
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      await back.runOk('ip', 'addr', 'add', `${front.ipv4}/32`, 'dev', 'eth0');
      await forge(back, { sourcePort, text: 'stolen' });
      expect(await ask(back, { sourcePort })).toBe('silence 0');
      // The same from within: root there can be any of its workloads.
      await forge(front, { sourcePort, text: 'own' });
      // What was sent before has come by then.
      await waitUntil('the last one has come', () => echo.log().includes('own'));
      expect(echo.log()).not.toContain('stolen');
      expect(sender.log()).not.toContain('silence');
    } finally {
      await sender.stop();
      await back.runOk('ip', 'addr', 'del', `${front.ipv4}/32`, 'dev', 'eth0');
    }
    // Its socket is gone, and with it the flow.
    await waitUntil('nobody gets anything into it', async () => {
      const mark = echo.log().length;
      await forge(front, { sourcePort, text: 'late' });
      // What was sent before has come by then.
      expect(await askPatiently(desk.host, { uid: ON_HOST })).toBe('answered 0');
      return !echo.log().slice(mark).includes('late');
    });
  });

  test('a workload is one at the addresses of its pod alone', async () => {
    const program = `
import socket
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(('${back.ipv4}', 40124))
own.sendto(b'displaced', ('${outsider.ipv4}', ${ALLOWED}))
print('sent', flush=True)
own.settimeout(1)
try: own.recv(100)
except OSError: print('done')`;
    await front.runOk('ip', 'addr', 'add', `${back.ipv4}/32`, 'dev', 'eth0');
    const displaced = programs.run(front, USER, { name: 'displaced', program });
    try {
      const found = await waitUntil('it is denied', async () =>
        (await records()).find(({ source }) => source === `${back.ipv4}:40124`),
      );
      expect(found).toMatchObject({ decision: 'deny', reason: 'caller_unidentified' });
      await waitUntil('nothing has come back', () => displaced.log().includes('done'));
    } finally {
      await displaced.stop();
      await front.runOk('ip', 'addr', 'del', `${back.ipv4}/32`, 'dev', 'eth0');
    }
    expect(echo.log()).not.toContain('displaced');
  });

  test('a pod on a bridge shares its way out with its neighbours, and is refused', async () => {
    const bridged = await makePod('bridged', desk.host);
    const { host } = network;
    await host.runOk('ip', 'link', 'add', 'cni0', 'type', 'bridge');
    await host.runOk('ip', 'link', 'set', 'cni0', 'up');
    await host.runOk('ip', 'link', 'set', `pod${LAST.bridged}`, 'master', 'cni0');
    await host.runOk('ip', 'route', 'replace', `${bridged.ipv4}/32`, 'dev', 'cni0');
    await waitUntil('it is captured', async () =>
      (await statusOf(desk)).namespaces.some(
        ({ label, state }) => label === 'bridged' && state === 'captured',
      ),
    );
    const found = await waitUntil('it is denied', async () => {
      expect(await ask(bridged)).toBe('silence 0');
      return (await records()).find(({ source }) => source.startsWith(`${bridged.ipv4}:`));
    });
    expect(found).toMatchObject({ decision: 'deny', reason: 'caller_unidentified', caller_spiffe_id: WEB });
    expect(found.message).toContain(
      by === 'name' ? 'No interface of the host leads' : 'not one of its namespace',
    );
    await host.runOk('ip', 'link', 'set', `pod${LAST.bridged}`, 'nomaster');
    await host.runOk('ip', 'route', 'replace', `${bridged.ipv4}/32`, 'dev', `pod${LAST.bridged}`);
    await waitUntil('it may with a way of its own', async () => (await ask(bridged)) === 'answered 0');
    await bridged.remove();
  });

  test('whoever undoes the rules within gets nothing out by it', async () => {
    const program = `
import socket, subprocess
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(20):
    subprocess.run(['nft', 'flush', 'ruleset'], check=True)
    try: own.sendto(b'undone', ('${outsider.ipv4}', ${OTHER}))
    except OSError: pass
print('done')`;
    const undoing = programs.run(front, ROOT, { name: 'undo', program });
    await waitUntil('it has tried', () => undoing.log().includes('done'));
    await undoing.stop();
    expect(echo.log()).not.toContain('undone');
    await waitUntil('the pod is answered again', async () => (await ask(front)) === 'answered 0');
  });

  test('another policy, and a quarantine, cut a flow that goes on', async () => {
    const sender = goOn('cut');
    try {
      const since = (mark: number): string => sender.log().slice(mark);
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      await publish('shop');
      const cut = await waitUntil('it is cut', () => sender.log().includes('silence') && sender.log().length);
      await publish('udp');
      await waitUntil('it is answered again', () => since(cut).includes('answered'));
      const beforeQuarantine = sender.log().length;
      await mesh.control.picketOk('quarantine', 'add', WEB, '--reason', 'test');
      await waitUntil('it is cut again', () => since(beforeQuarantine).includes('silence'));
    } finally {
      await sender.stop();
      await mesh.control.picket('quarantine', 'lift', WEB);
    }
    await waitUntil('it may call again', async () => (await ask(front)) === 'answered 0');
  });

  test('a pod that floods the agent, past all bounds within, is heard now and then, and keeps nobody else out', async () => {
    await front.runOk('nft', 'add table inet own');
    await front.runOk('nft', 'add chain inet own out { type filter hook output priority -300; }');
    await front.runOk(
      'nft',
      `add rule inet own out udp dport ${OTHER} log group 0x5049 snaplen 65535 queue-threshold 1`,
    );
    const program = `
import socket
while True:
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for n in range(50):
        try: own.sendto(b'flood', ('${outsider.ipv4}', ${OTHER}))
        except OSError: pass
    own.close()`;
    const lost = async (): Promise<number> => (await desk.metric('picket_udp_lost_datagrams_total')) ?? 0;
    const before = await lost();
    const flooding = programs.run(front, ROOT, { name: 'flood', program });
    try {
      await waitUntil('more comes than is heard', async () => (await lost()) > before + 1);
      for (let n = 0; n < 3; n++) expect(await askPatiently(desk.host, { uid: ON_HOST })).toBe('answered 0');
    } finally {
      await flooding.stop();
      await front.runOk('nft', 'delete table inet own');
    }
    expect(echo.log()).not.toContain('flood');
    await waitUntil('it is heard again', async () => (await ask(front)) === 'answered 0');
  });

  test('whoever takes over from the agent goes on, and decides anew', async () => {
    const sender = goOn('upgrade');
    try {
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      await desk.upgrade();
      const mark = sender.log().length;
      await waitUntil('it is answered again', () => sender.log().slice(mark).includes('answered'));
      expect(await ask(back)).toBe('silence 0');
    } finally {
      await sender.stop();
    }
    await awaitEnd(desk);
  });

  test('a pod that comes is heard, and one that goes takes its flows with it', async () => {
    const sender = goOn('gone');
    await waitUntil('it is answered', () => sender.log().includes('answered 3'));
    const flows = async (): Promise<number> => (await statusOf(desk)).udp?.flows ?? -1;
    expect(await flows()).toBeGreaterThan(0);
    await sender.stop();
    await front.remove();
    await waitUntil('it is let go', async () => (await flows()) === 0);
    front = await makePod('front', desk.host);
    await waitUntil('it is answered again', async () => (await ask(front)) === 'answered 0');
  });

  test('without the agent nothing passes; and where somebody within has its place, the next one tells', async () => {
    const sender = goOn('alone');
    try {
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      process.kill(desk.pid, 'SIGKILL');
      const begun = Date.now();
      await waitUntil('it is cut', () => sender.log().includes('silence'));
      expect(Date.now() - begun).toBeLessThan(8000);
      expect(await ask(front)).toBe('silence 0');
    } finally {
      await sender.stop();
    }
    await desk.stop();
    const squatter = programs.run(front, ROOT, { name: 'squatter', program: SQUATTER });
    try {
      await waitUntil('it has the place', () => squatter.log().includes('error 0'));
      await desk.start();
      await waitUntil('it is told', async () => (await statusOf(desk)).udp?.deafIn.length === 1);
      expect(await askPatiently(desk.host, { uid: ON_HOST })).toBe('answered 0');
      expect(await ask(front)).toBe('silence 0');
      expect((await desk.examine()).outcomes['agent udp']).toBe('warn');
    } finally {
      await squatter.stop('SIGKILL');
    }
    await waitUntil('it is heard again', async () => (await ask(front)) === 'answered 0');
  });
});
