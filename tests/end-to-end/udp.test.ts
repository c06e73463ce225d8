import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import type { CaptureBackend } from '../../agent/capture/capture.ts';
import { accessPage, policyAnswer } from '../../shared/protocol/operator.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { Child, run } from '../kit/child.ts';
import { DatagramPrograms, type Sending } from '../kit/datagram-programs.ts';
import { DnsServer } from '../kit/dns.ts';
import { asUser } from '../kit/programs.ts';
import { awaitEnd, statusOf } from './never-down/upgraded.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { forgeDatagrams } from '../kit/forged-datagrams.ts';
import { waitUntil } from '../kit/wait.ts';

/** UDP out of the mesh, decided by the policy: real sockets, a real DNS server, and the compiled binary. */

setDefaultTimeout(60_000);

const { web, reports, nobody } = SHOP_USERS;
const POLICIES = join(import.meta.dirname, '../kit/policies');
const PYTHON = '/usr/bin/python3';
/** What the policy allows to web alone, and what it allows to nobody. */
const ALLOWED = 9000;
const OTHER = 9001;
const OUTSIDER = '10.9.0.4';
/** Of a workload that is known by it, of the user `web`. */
const SIDECAR_GROUP = 7990;

type More = Omit<Sending, 'to' | 'port'> & { readonly to?: string };

/** Holds a UDP port at an address. */
function hold(address: string, port: number): string {
  return `
import socket, time
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(('${address}', ${port}))
print('holds')
time.sleep(600)`;
}

/** Sends from an address by IP_PKTINFO, again and again, by a socket that is bound to the first of `bound`; the last gets the answers. */
function sendAs(
  source: string,
  options: {
    readonly bound: readonly string[];
    readonly port: number;
    readonly to: { readonly address: string; readonly port: number };
  },
): string {
  const { bound, port, to } = options;
  return `
import socket
sockets = []
for address in ${JSON.stringify(bound)}:
    sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sockets[-1].bind((address, ${port}))
sockets[-1].settimeout(0.5)
source = (socket.IPPROTO_IP, 8, bytes(4) + socket.inet_aton('${source}') + bytes(4)) # IP_PKTINFO
while True:
    sockets[0].sendmsg([b'borrowed'], [source], 0, ('${to.address}', ${to.port}))
    try:
        sockets[-1].recv(100)
        print('answered')
    except OSError:
        pass`;
}

interface Variant {
  readonly backend: CaptureBackend;
  /** Of the data path; UDP is decided in the agent itself, however many carry connections. */
  readonly workers: number;
}
const VARIANTS: readonly Variant[] = [
  { backend: 'nftables', workers: 1 },
  { backend: 'nftables', workers: 2 },
  { backend: 'ebpf', workers: 2 },
];

describe.each(VARIANTS)('UDP out of the mesh, captured by $backend, workers: $workers', (variant) => {
  const { backend, workers } = variant;
  let shop: Shop;
  let echo: Child;
  let programs: DatagramPrograms;

  beforeAll(async () => {
    shop = await Shop.open({
      backend,
      settings: { proxy: { workers }, egress: { udp: 'policy', resolvers: [`${OUTSIDER}:53`] } },
    });
    programs = new DatagramPrograms(join(shop.folder, 'udp'));
    echo = await programs.serve(shop.outsider, ALLOWED, OTHER);
    await publish('udp');
    await waitUntil('the policy is in force', async () => (await ask(web, ALLOWED)) === 'answered 0');
  }, 120_000);
  afterAll(async () => {
    await echo?.stop();
    await shop?.close();
  });

  /** As `DatagramPrograms.ask`, on `desk`. */
  async function ask(uid: number, port: number, more: More = {}): Promise<string> {
    return await programs.ask(shop.desk.host, uid, { to: shop.outsider.ipv4, port, ...more });
  }

  async function askPatiently(uid: number, port: number, more: More = {}): Promise<string> {
    return await programs.askPatiently(shop.desk.host, uid, { to: shop.outsider.ipv4, port, ...more });
  }

  async function publish(policy: string): Promise<void> {
    await shop.mesh.control.picketOk('policy', 'publish', join(POLICIES, policy), '-m', policy);
  }

  async function records(): Promise<readonly AccessRecord[]> {
    const page = await shop.mesh.control.picketJson(accessPage, 'audit', 'access', '--limit', '200');
    return page.items.filter(({ protocol }) => protocol === 'udp');
  }

  /** Undefined while there is none. */
  async function recordsFrom(sourcePort: number): Promise<readonly AccessRecord[] | undefined> {
    const found = (await records()).filter(({ source }) => source.endsWith(`:${sourcePort}`));
    return found.length > 0 ? found : undefined;
  }

  function goOn(uid: number, port: number, name: string, sending: More = {}): Child {
    return programs.goOn(shop.desk.host, uid, { to: shop.outsider.ipv4, port, ...sending, name });
  }

  function goOnPatiently(uid: number, port: number, name: string, sending: More = {}): Child {
    return programs.goOnPatiently(shop.desk.host, uid, { to: shop.outsider.ipv4, port, ...sending, name });
  }

  async function workerPids(): Promise<readonly number[]> {
    return (await statusOf(shop.desk)).workers.flatMap(({ pid }) => pid ?? []);
  }

  test('an allowed flow is answered from its first datagram on, by both families, small and large', async () => {
    const { ipv4, ipv6 } = shop.outsider;
    for (const address of [ipv4, ipv6])
      for (const connects of [true, false])
        for (const size of [8, 20_000])
          expect([
            address,
            connects,
            size,
            await askPatiently(web, ALLOWED, { to: address, connects, size }),
          ]).toEqual([address, connects, size, 'answered 0']);
    const found = await waitUntil('it stands in the record', async () =>
      (await records()).find(
        ({ decision, destination }) => decision === 'allow' && destination === `${ipv4}:${ALLOWED}`,
      ),
    );
    expect(found).toMatchObject({
      caller_spiffe_id: 'spiffe://example.org/web',
      target_spiffe_id: null,
      direction: 'outbound',
      reason: 'policy_allow',
    });
  });

  test('operators are told what it says of UDP, and hosts how it stands', async () => {
    const ask = ['policy', 'evaluate', '--direction', 'outbound', '--caller', 'spiffe://example.org/web'];
    const asked = async (...more: readonly string[]): Promise<string> =>
      (await shop.mesh.control.picketJson(policyAnswer, ...ask, ...more)).decision;
    const target = ['--target-address', '192.0.2.9', '--target-port', String(ALLOWED)];
    expect(await asked(...target, '--protocol', 'udp')).toBe('allow');
    expect(await asked(...target)).toBe('deny');
    expect(await shop.desk.picketOk('agent', 'status')).toMatch(/udp: +decided by the policy; \d/);
    expect(await shop.desk.metric('picket_udp_deciding')).toBe(1);
  });

  test('what the policy does not allow is dropped and recorded, once for many, whoever sends it', async () => {
    const denied = [
      [web, OTHER],
      [web, OTHER],
      [reports, ALLOWED],
      [nobody, ALLOWED],
    ] as const;
    const heard = await Promise.all(denied.map(async ([uid, port]) => await ask(uid, port)));
    expect(heard).toEqual(denied.map(() => 'silence 0'));
    expect(echo.log()).not.toContain(`got ${OTHER}`);
    await waitUntil('it is told why', async () => (await shop.why(web)).includes('egress_deny'));
    // What was asked before the policy was in force stands there as well.
    const deniedTo = async (port: number): Promise<readonly string[]> =>
      (await records())
        .filter(({ reason, destination }) => reason === 'egress_deny' && destination.endsWith(`:${port}`))
        .map(({ caller_spiffe_id: id }) => String(id));
    await waitUntil('the denials stand in the record', async () => {
      const [ofWeb, others] = [await deniedTo(OTHER), await deniedTo(ALLOWED)];
      return ofWeb.length > 0 && ['spiffe://example.org/reports', 'null'].every((id) => others.includes(id));
    });
    expect(await deniedTo(OTHER)).toEqual(['spiffe://example.org/web']);
  });

  test('every program may ask the resolvers, by UDP and TCP, and nothing else of that host', async () => {
    const dns = await DnsServer.start({
      folder: join(shop.folder, 'udp'),
      address: shop.outsider.ipv4,
      port: 53,
      records: { 'api.partner.test': ['192.0.2.7'] },
      within: (...words) => shop.outsider.in(...words),
    });
    try {
      for (const by of ['udp', 'tcp']) {
        const question = [PYTHON, programs.script, 'resolve', shop.outsider.ipv4, 'api.partner.test', by];
        const { stdout } = await run(shop.desk.host.in(...asUser(nobody, ...question)), { cwd: '/' });
        expect([by, stdout.trim()]).toEqual([by, '192.0.2.7']);
      }
    } finally {
      await dns.stop();
    }
    expect(await ask(nobody, ALLOWED)).toBe('silence 0');
  });

  test('another policy, and a quarantine, cut a flow that goes on', async () => {
    const sender = goOn(web, ALLOWED, 'cut');
    try {
      const since = (mark: number): string => sender.log().slice(mark);
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      await publish('shop');
      const cut = await waitUntil('it is cut', () =>
        sender.log().includes('silence') ? sender.log().length : undefined,
      );
      await publish('udp');
      await waitUntil('it is answered again', () => since(cut).includes('answered'));
      const beforeQuarantine = sender.log().length;
      await shop.mesh.control.picketOk('quarantine', 'add', 'spiffe://example.org/web', '--reason', 'test');
      await waitUntil('it is cut again', () => since(beforeQuarantine).includes('silence'));
      // An answer that was late was silence as well.
      await waitUntil('it is told why', async () => (await shop.why(web)).includes('quarantined'));
    } finally {
      await sender.stop();
      await shop.mesh.control.picket('quarantine', 'lift', 'spiffe://example.org/web');
    }
    await waitUntil('web may call again', async () => (await ask(web, ALLOWED)) === 'answered 0');
  });

  test('a port that was another’s is of no use, to another user at once, to the same one within seconds', async () => {
    const sourcePort = 40_123;
    expect(await askPatiently(web, ALLOWED, { sourcePort })).toBe('answered 0');
    expect(await ask(nobody, ALLOWED, { sourcePort })).toBe('silence 0');
  });

  test('a flow ends where another socket takes the same port beside its own, and that one gets nothing out', async () => {
    const sourcePort = 40_124;
    const first = goOn(web, ALLOWED, 'first', { sourcePort });
    // Of another size: an answer to the first may come to this one.
    const second = goOn(reports, ALLOWED, 'second', { sourcePort, size: 16 });
    try {
      await waitUntil('nobody knows any more whose it is', () => first.log().includes('silence'));
      await waitUntil('the other has tried', () => second.log().includes('silence'));
      expect(second.log()).not.toContain('answered');
      expect(echo.log()).not.toMatch(new RegExp(` ${sourcePort} n\\d+ x{6}`));
    } finally {
      await first.stop();
      await second.stop();
    }
  });

  test('who may write datagrams himself gets nothing into the flow of another user', async () => {
    const sourcePort = 40_126;
    const sender = goOn(web, ALLOWED, 'forged', { sourcePort });
    const forge = async (uid: number, text: string): Promise<void> => {
      const { ipv4: address } = shop.desk.host;
      const to = { address: shop.outsider.ipv4, port: ALLOWED };
      const program = forgeDatagrams({ from: { address, port: sourcePort }, to, text });
      const [setpriv = '', ...more] = asUser(uid, PYTHON, '-uc', program);
      const command = [setpriv, '--inh-caps=+net_raw', '--ambient-caps=+net_raw', ...more];
      const { stdout } = await run(shop.desk.host.in(...command), { cwd: '/' });
      expect(stdout.trim()).toBe('forged');
    };
    try {
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      await forge(reports, 'stolen');
      // The same user's other programs can: flows are told apart by users. What was sent before has come by then.
      await forge(web, 'own');
      await waitUntil('the last one has come', () => echo.log().includes(' own'));
    } finally {
      await sender.stop();
    }
    expect(echo.log()).not.toContain('stolen');
  });

  test('a program that sends from the address and port of another one is not taken for it, and one with two addresses is itself', async () => {
    const [borrowedPort, ownPort] = [40_129, 40_130];
    const { ipv4 } = shop.desk.host;
    // Another workload of the same user, which the policy lets send nothing.
    const selectors = [`unix:uid:${web}`, `unix:gid:${SIDECAR_GROUP}`];
    await shop.mesh.register({ path: '/sidecar', on: shop.desk, selectors });
    const asSidecar = ['setpriv', `--reuid=${web}`, `--regid=${SIDECAR_GROUP}`, '--clear-groups', '--'];
    const start = (name: string, program: string): Child =>
      new Child({
        command: shop.desk.host.in(...asSidecar, PYTHON, '-uc', program),
        logFile: join(shop.folder, `${name}.log`),
        cwd: '/',
      });
    const to = { address: shop.outsider.ipv4, port: ALLOWED };
    const holder = programs.run(shop.desk.host, web, { name: 'holder', program: hold(ipv4, borrowedPort) });
    const known = start('sidecar', sendAs(ipv4, { bound: [ipv4], port: 40_131, to }));
    let borrower: Child | undefined;
    let owner: Child | undefined;
    try {
      await waitUntil('the other workload is known', async () =>
        (await records()).some(({ caller_spiffe_id: id }) => id === 'spiffe://example.org/sidecar'),
      );
      await waitUntil('web holds the port', () => holder.log().includes('holds'));
      borrower = start('borrower', sendAs(ipv4, { bound: ['127.0.0.1'], port: borrowedPort, to }));
      const found = await waitUntil('it stands in the record', async () => await recordsFrom(borrowedPort));
      expect(found[0]).toMatchObject({ decision: 'deny', caller_spiffe_id: null });
      expect(echo.log()).not.toContain(`got ${ALLOWED} ${borrowedPort} `);
      owner = programs.run(shop.desk.host, web, {
        name: 'owner',
        program: sendAs(ipv4, { bound: ['127.0.0.1', ipv4], port: ownPort, to }),
      });
      await waitUntil('it is answered', () => owner?.log().includes('answered') === true);
      const own = await waitUntil('it is recorded too', async () => await recordsFrom(ownPort));
      expect(own).toMatchObject([{ decision: 'allow', caller_spiffe_id: 'spiffe://example.org/web' }]);
    } finally {
      for (const child of [holder, known, borrower, owner]) await child?.stop();
    }
  });

  test('a flood of flows that are denied keeps nobody out, and is recorded once', async () => {
    const flood = `
import socket
for n in range(20000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.sendto(b'flood', ('${shop.outsider.ipv4}', ${OTHER}))
    except OSError:
        pass
    s.close()`;
    const flooding = programs.run(shop.desk.host, reports, { name: 'flood', program: flood });
    try {
      expect(await askPatiently(web, ALLOWED)).toBe('answered 0');
    } finally {
      await flooding.stop();
    }
    expect(echo.log()).not.toContain('flood');
    const floods = (await records()).filter(({ destination }) => destination.endsWith(`:${OTHER}`));
    expect(floods.length).toBeLessThan(10);
  });

  test('a flow at whose port thousands of sockets are opened ends alone, and others go on', async () => {
    const [crowdedPort, sourcePort] = [40_127, 40_128];
    const crowd = `
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
def opened():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('0.0.0.0', ${crowdedPort}))
    s.settimeout(1)
    return s
def ask():
    first.sendto(b'crowded', ('${shop.outsider.ipv4}', ${ALLOWED}))
    try:
        first.recv(100)
        return True
    except OSError:
        return False
first = opened()
while not ask():
    pass
print('answered')
crowd = [opened() for n in range(4200)]
print('crowded')
while ask():
    time.sleep(0.1)
print('ended')
while True:
    ask()`;
    const sender = goOnPatiently(web, ALLOWED, 'beside', { sourcePort });
    let crowding: Child | undefined;
    try {
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      crowding = programs.run(shop.desk.host, web, { name: 'crowd', program: crowd });
      await waitUntil('the crowded flow ends', () => crowding?.log().includes('ended') === true);
      const mark = sender.log().split('answered').length;
      await waitUntil('the other goes on', () => sender.log().split('answered').length > mark + 20);
      expect(sender.log()).not.toContain('silence');
    } finally {
      await crowding?.stop();
      await sender.stop();
    }
    const ofIt = await waitUntil('it stands in the record', async () => await recordsFrom(sourcePort));
    expect(ofIt.map(({ decision }) => decision)).toEqual(['allow']);
  });

  test('a flow goes on, and others begin, at whose port another user opens any number of sockets', async () => {
    const sourcePorts = [40_133, 40_134];
    const crowd = `
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
crowd = []
for port in ${JSON.stringify(sourcePorts)}:
    for family, address in [(socket.AF_INET, '127.0.0.2'), (socket.AF_INET6, '::1')]:
        for n in range(600):
            crowd.append(socket.socket(family, socket.SOCK_DGRAM))
            crowd[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            crowd[-1].bind((address, port))
print('crowded')
time.sleep(600)`;
    const { ipv4, ipv6 } = shop.outsider;
    const sendings = [ipv4, ipv6].map((to, i) => ({ to, sourcePort: sourcePorts[i] ?? 0 }));
    const senders = sendings.map((sending, i) => goOnPatiently(web, ALLOWED, `in-a-crowd-${i}`, sending));
    const goOnFor = async (answers: number): Promise<void> => {
      const marks = senders.map((sender) => sender.log().split('answered').length + answers);
      await waitUntil('both go on', () =>
        senders.every((sender, i) => sender.log().split('answered').length > (marks[i] ?? 0)),
      );
    };
    let crowding: Child | undefined;
    try {
      await goOnFor(2);
      crowding = programs.run(shop.desk.host, nobody, { name: 'foreign-crowd', program: crowd });
      await waitUntil('the port is crowded', () => crowding?.log().includes('crowded') === true);
      // Each is looked at once a second.
      await goOnFor(40);
      for (const sender of senders.splice(0)) {
        await sender.stop();
        expect(sender.log()).not.toContain('silence');
      }
      for (const sending of sendings) expect(await askPatiently(web, ALLOWED, sending)).toBe('answered 0');
    } finally {
      for (const child of [...senders, crowding]) await child?.stop();
    }
  });

  test(`a flow stands in the record once, and needs no process but the agent’s own (workers: ${workers})`, async () => {
    const sourcePort = 40_125;
    const sender = goOnPatiently(web, ALLOWED, 'once', { sourcePort });
    try {
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      const answered = (): number => sender.log().split('answered').length;
      const pids = await workerPids();
      expect(pids).toHaveLength(workers === 1 ? 0 : workers);
      for (const pid of pids) process.kill(pid, 'SIGKILL');
      const mark = answered();
      await waitUntil('all workers run again', async () => {
        const now = await workerPids();
        return now.length === pids.length && !now.some((pid) => pids.includes(pid)) && shop.desk.isReady();
      });
      await waitUntil('it goes on', () => answered() > mark + 5);
      expect(sender.log()).not.toContain('silence');
      expect(await askPatiently(web, ALLOWED)).toBe('answered 0');
    } finally {
      await sender.stop();
    }
    const found = await waitUntil('it stands in the record', async () => await recordsFrom(sourcePort));
    expect(found.map(({ decision }) => decision)).toEqual(['allow']);
  });

  test('whoever takes over from the agent goes on, and decides anew', async () => {
    const sender = goOn(web, ALLOWED, 'upgrade');
    try {
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      await shop.desk.upgrade();
      const mark = sender.log().length;
      await waitUntil('it is answered again', () => sender.log().slice(mark).includes('answered'));
      expect(await ask(nobody, ALLOWED)).toBe('silence 0');
    } finally {
      await sender.stop();
    }
    // The next test is about the last agent there is.
    await awaitEnd(shop.desk);
  });

  test('without the agent nothing passes, a flow that goes on neither', async () => {
    const sender = goOn(web, ALLOWED, 'alone');
    try {
      await waitUntil('it is answered', () => sender.log().includes('answered 3'));
      process.kill(shop.desk.pid, 'SIGKILL');
      const begun = Date.now();
      await waitUntil('it is cut', () => sender.log().includes('silence'));
      expect(Date.now() - begun).toBeLessThan(8000);
      expect(await ask(web, ALLOWED)).toBe('silence 0');
    } finally {
      await sender.stop();
    }
  });
});
