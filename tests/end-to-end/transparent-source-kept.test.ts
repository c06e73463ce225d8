import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { accessPage, entryPage } from '../../shared/protocol/operator.ts';
import { Child, run } from '../kit/child.ts';
import { asUser, curl, psqlCommand, type CurlAnswer } from '../kit/programs.ts';
import { denialBody, SHOP_USERS } from '../kit/shop.ts';
import { returnRoutesOf, TRANSPARENT_PORTS, TransparentShop } from '../kit/transparent-shop.ts';
import { waitUntil } from '../kit/wait.ts';

/**
 * What keeps connections from callers' addresses on this host, and what becomes of them when somebody takes it away, forges packets, or comes from the same port; when the agent is replaced, and when
 * nothing asks for them any more. The tests follow each other.
 */

setDefaultTimeout(120_000);

const { http, http2, excluded, bytes } = TRANSPARENT_PORTS;
/** Counts on the calling host what comes from a program of `store` past the agents, and what resets such a thing. */
const WITNESS = `table inet witness {
  chain input {
    type filter hook input priority -200;
    iifname "eth0" tcp sport { ${http}, ${http2}, ${bytes} } counter
  }
}`;
/** Sends a packet with a source address and port of somebody else's, to a port of \`store\`: arguments source, its port, destination, its port, flags. */
const FORGER = `
import socket, struct, sys
src, sport, dst, dport, flags = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
def checksum(data):
    data += b"\\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
body = b"GET / HTTP/1.1\\r\\n\\r\\n"
head = lambda sum: struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 5 << 4, flags, 1024, sum, 0)
ends = socket.inet_aton(src) + socket.inet_aton(dst)
tcp = head(checksum(ends + struct.pack("!BBH", 0, 6, 20 + len(body)) + head(0) + body)) + body
ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + ends
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
s.sendto(ip + tcp, (dst, 0))
`;
const ACK = 0x10;

let rig: TransparentShop;
let held: Child | undefined;
let queries = 0;

beforeAll(async () => {
  const capture = { exclude: { inbound_ports: [22, excluded] } };
  rig = await TransparentShop.open({ settings: { capture } });
  await run(rig.shop.desk.host.in('nft', '-f', '-'), { stdin: WITNESS });
}, 180_000);
afterEach(async () => {
  await held?.stop('SIGKILL');
  held = undefined;
});
afterAll(async () => await rig?.close());

const store = (): TransparentShop['shop']['store'] => rig.shop.store;
const url = (): string => `http://${store().host.ipv4}:${http}/`;

async function isSeen(): Promise<boolean> {
  return (await rig.ask(url())).body === `from ${rig.shop.desk.host.ipv4}\n`;
}

/** A query that takes so long, once it is under way. */
async function hold(seconds: number): Promise<Child> {
  const sql = `select pg_sleep(${seconds}), host(inet_client_addr())`;
  const query = new Child({
    command: psqlCommand(rig.shop.desk.host, {
      uid: SHOP_USERS.reports,
      server: store().host.ipv4,
      sql,
    }),
    logFile: join(rig.shop.folder, `held-${++queries}.log`),
    cwd: '/',
  });
  held = query;
  await query.ready('the query is under way', async () => await rig.shop.isQueried(sql));
  return query;
}

/** Packets and bytes that a rule has counted, by a piece of its text. */
async function countOf(host: TransparentShop['shop']['outsider'], rule: RegExp): Promise<number> {
  const rules = await host.runOk('nft', 'list', 'ruleset');
  const line = rules.split('\n').find((each) => rule.test(each));
  return Number(/counter packets (\d+)/.exec(line ?? '')?.[1] ?? 'NaN');
}

/** By the rule of `WITNESS`. */
const cameHere = async (): Promise<number> =>
  await countOf(rig.shop.desk.host, /iifname "eth0" tcp sport .* counter/);

async function nodeHost(sysctl: string, value: string): Promise<void> {
  await store().host.runOk('sysctl', '-qw', `${sysctl}=${value}`);
}

test('works where the kernel checks where packets come from', async () => {
  for (const device of ['all', 'lo', 'eth0']) await nodeHost(`net.ipv4.conf.${device}.rp_filter`, '1');
  expect(await isSeen()).toBe(true);
});

test('a caller’s own connection from the very port that the kernel chose for its address is no hindrance', async () => {
  const { outsider } = rig.shop;
  // The kernel has one port to choose from, and the caller takes it.
  await nodeHost('net.ipv4.ip_local_port_range', '41000 41000');
  const { body } = await curl(outsider, { uid: 0, args: [url(), '--local-port', '41000'] });
  await nodeHost('net.ipv4.ip_local_port_range', '32768 60999');
  expect(body).toBe(`from ${outsider.ipv4}\n`);
  expect(await store().host.runOk('conntrack', '-L')).toMatch(/sport=41000 dport=8081 .*zone=20554/);
});

test('without the routing rule nothing leaves the host, connections are refused, and the rule comes back', async () => {
  const before = await cameHere();
  const remove = async (): Promise<void> => {
    for (const family of ['-4', '-6'])
      await store().host.runOk('ip', family, 'rule', 'del', 'protocol', '80');
  };
  await remove();
  // Behind a look the next one is five seconds away.
  await waitUntil('a look has brought it back', async () =>
    (await returnRoutesOf(store().host)).includes('fwmark'),
  );
  await remove();
  expect(await returnRoutesOf(store().host)).not.toContain('fwmark');
  const asked = rig.ask(url(), '--max-time', '20');
  await waitUntil('what answers is held back', async () => {
    return (await countOf(store().host, /oifname != "lo" counter/)) > 0;
  });
  // The next look brings it back, and the connection goes on with what is sent again.
  expect((await asked).body).toBe(`from ${rig.shop.desk.host.ipv4}\n`);
  expect(await returnRoutesOf(store().host)).toContain('fwmark');
  expect(store().log()).toContain('return_routes_changed');
  expect((await store().examine()).faults.join()).toContain('transparent warn');
  expect(await cameHere()).toBe(before);
});

test('a flush of the table brings the route back too', async () => {
  await store().host.runOk('ip', 'route', 'flush', 'table', '20554');
  await waitUntil('it is back', async () =>
    (await returnRoutesOf(store().host)).includes('local default dev lo'),
  );
  expect(await isSeen()).toBe(true);
});

test('a route of somebody else in the table that leads nowhere is told as what it is', async () => {
  await store().host.runOk('ip', 'route', 'flush', 'table', '20554');
  await store().host.runOk('ip', 'route', 'replace', 'blackhole', 'default', 'table', '20554');
  await waitUntil('it is told', async () =>
    (await store().examine()).faults.join().includes('has a route of somebody else'),
  );
  await store().host.runOk('ip', 'route', 'flush', 'table', '20554');
  await waitUntil('the caller is seen', isSeen);
});

test('picket doctor warns of a port that the kernel takes for what goes out, until it is reserved', async () => {
  const outcome = async (): Promise<string | undefined> =>
    (await store().examine()).outcomes['agent ephemeral ports'];
  expect(await outcome()).toBe('ok');
  await nodeHost('net.ipv4.ip_local_port_range', `${http} 60999`);
  expect(await outcome()).toBe('warn');
  await nodeHost('net.ipv4.ip_local_reserved_ports', `${http}-10000`);
  expect(await outcome()).toBe('ok');
  await nodeHost('net.ipv4.ip_local_reserved_ports', '');
  await nodeHost('net.ipv4.ip_local_port_range', '32768 60999');
});

test('connections go on when the rules are flushed and put back, and when connection tracking forgets them', async () => {
  const query = await hold(6);
  await store().host.runOk('nft', 'flush', 'ruleset');
  await waitUntil('the rules are back', async () => await isSeen());
  await store().host.runOk('conntrack', '-F');
  await waitUntil('it ends', () => !query.isRunning, 20_000);
  expect(query.log()).toContain(`|${rig.shop.desk.host.ipv4}`);
});

test('a connection that the program ends is ended for the caller too, where connection tracking has forgotten it, and nothing leaves meanwhile', async () => {
  const before = await cameHere();
  const { host } = store();
  const script = `exec 3<>/dev/tcp/${host.ipv4}/${bytes}; cat <&3; echo ended`;
  const caller = new Child({
    command: rig.shop.desk.host.in(...asUser(SHOP_USERS.web, 'bash', '-c', script)),
    logFile: join(rig.shop.folder, 'ended.log'),
    cwd: '/',
  });
  held = caller;
  const listSockets = async (state: string): Promise<string> =>
    await host.runOk('ss', '-Htnp', 'state', state, `sport = :${bytes}`);
  await caller.ready('it is open', async () => (await listSockets('established')).includes('python3'));
  const [, program] = /pid=(\d+)/.exec(await listSockets('listening')) ?? [];
  // Until the next look brings the rule back, it would leave.
  await host.runOk('ip', 'rule', 'del', 'protocol', '80');
  await host.runOk('conntrack', '-F');
  process.kill(Number(program), 'SIGKILL');
  // The kernel asks whether a silent connection lives after thirty seconds, by which it would be known again.
  await waitUntil('the caller hears of it', () => caller.log().includes('ended'), 20_000);
  expect(await cameHere()).toBe(before);
});

test('a packet from outside that claims to be of such a connection is dropped, though accepted sockets have the mark of what opened them', async () => {
  await nodeHost('net.ipv4.tcp_fwmark_accept', '1');
  const dropped = async (): Promise<number> =>
    await countOf(store().host, /^\s*tcp dport .* counter .* drop$/);
  const before = await dropped();
  const { ipv4 } = rig.shop.desk.host;
  const forged = [ipv4, '45000', store().host.ipv4, String(http), String(ACK)];
  await rig.shop.outsider.runOk('/usr/bin/python3', '-c', FORGER, ...forged);
  await waitUntil('it is dropped', async () => (await dropped()) > before);
  expect(await isSeen()).toBe(true);
  await nodeHost('net.ipv4.tcp_fwmark_accept', '0');
});

test('a program of the host takes nobody’s address without the right to', async () => {
  const bind = `import socket; s = socket.socket(); s.setsockopt(0, 19, 1)`;
  const made = await run(
    store().host.in('setpriv', '--reuid=33', '--clear-groups', '/usr/bin/python3', '-c', bind),
  );
  expect(made.stderr).toContain('PermissionError');
});

test('the agent’s successor goes on with it, and open connections do', async () => {
  const query = await hold(8);
  await store().upgrade();
  expect(await isSeen()).toBe(true);
  await waitUntil('it ends', () => !query.isRunning, 20_000);
  expect(query.log()).toContain(`|${rig.shop.desk.host.ipv4}`);
});

/** As kube-proxy does, by a bit of the mark, and as Docker, by the source. */
function masquerading(priority: number): string {
  const { ipv4, ipv6 } = rig.shop.desk.host;
  return `table inet somebody {
    chain masks {
      type nat hook postrouting priority ${priority};
      meta mark & 0x4000 != 0 masquerade
      ip saddr ${ipv4} masquerade
      ip6 saddr ${ipv6} masquerade
    }
  }`;
}

test('what others masquerade, as Docker and kube-proxy do, is let be', async () => {
  const { desk } = rig.shop;
  await run(store().host.in('nft', '-f', '-'), { stdin: masquerading(100) });
  expect(await isSeen()).toBe(true);
  const v6 = await rig.ask(`http://[${store().host.ipv6}]:${http}/`);
  expect(v6.body).toBe(`from ${desk.host.ipv6}\n`);
  await store().host.runOk('nft', 'delete', 'table', 'inet', 'somebody');
});

test('where somebody’s NAT comes before the rules, the caller is refused, told by whom, and doctor has seen it', async () => {
  await run(store().host.in('nft', '-f', '-'), { stdin: masquerading(-150) });
  const { status, body } = await rig.ask(url());
  expect(status).toBe(502);
  const { message } = denialBody.parse(JSON.parse(body));
  expect(message).toMatch(/address translation \(NAT\) of somebody else on this host makes \S+ of it/);
  const { faults } = await store().examine();
  expect(faults.join()).toContain('inet somebody masks');
  await store().host.runOk('nft', 'delete', 'table', 'inet', 'somebody');
  expect(await isSeen()).toBe(true);
});

test('another number takes the place of the first, in an agent that takes over and in one that starts, and open connections go on', async () => {
  const query = await hold(8);
  const config = z
    .looseObject({ capture: z.looseObject({}) })
    .parse(JSON.parse(readFileSync(store().configFile, 'utf8')));
  const change = (id: number): void => {
    const capture = { ...config.capture, transparent_id: id };
    writeFileSync(store().configFile, JSON.stringify({ ...config, capture }));
  };
  change(777);
  await waitUntil(
    'the agent before has ended, and this one is replaced',
    async () => await store().upgrade(),
  );
  expect(await isSeen()).toBe(true);
  const made = await returnRoutesOf(store().host);
  expect(made.match(/fwmark 0x309 lookup 777/g)).toHaveLength(2);
  expect(made).not.toContain('20554');
  await waitUntil('it ends', () => !query.isRunning, 20_000);
  expect(query.log()).toContain(`|${rig.shop.desk.host.ipv4}`);
  await store().stop();
  change(20_554);
  await store().start();
  await waitUntil('the caller is seen', isSeen);
  expect(await returnRoutesOf(store().host)).not.toContain('777');
});

test('a listener at a port of the agent’s own, or of a gateway, does not cut the host off', async () => {
  const { control } = rig.shop.mesh;
  await rig.registerInvoices(['80', `${http}/http/transparent`, '15008/tcp/transparent']);
  await waitUntil('the agent has heard of it', () => store().log().includes('15008]'));
  expect(await isSeen()).toBe(true);
  expect(await store().host.runOk('nft', 'list', 'ruleset')).not.toMatch(
    /tcp [sd]port[^\n]* 15008[^\n]* zone/,
  );
  const { items } = await control.picketJson(entryPage, 'entry', 'list');
  const invoices = items.find(({ spiffeId }) => spiffeId.endsWith('/invoices'));
  const gateway = ['--listen', '15008/egress/transparent'];
  const refused = await control.picket('entry', 'update', invoices?.entryId ?? '', ...gateway);
  expect(refused.stderr).toContain('Port 15008 is a gateway');
  await rig.registerInvoices(['80', `${http}/http/transparent`]);
});

test('where the rules leave a port alone, the caller is refused, and told why; nothing comes from another address', async () => {
  await rig.registerInvoices(['80', `${http}/http/transparent`, `${excluded}/http/transparent`]);
  const asked = async (): Promise<CurlAnswer> => await rig.ask(`http://${store().host.ipv4}:${excluded}/`);
  await waitUntil('it is registered', async () => (await asked()).status !== 0);
  const { status, body } = await asked();
  const denial = denialBody.parse(JSON.parse(body));
  expect([status, denial.reason]).toEqual([502, 'application_unreachable']);
  expect(denial.message).toContain('are not in force');
  // It is refused from when the agent has heard of it, also while the rules are being loaded.
  await waitUntil('it is told', async () =>
    (await store().picketOk('agent', 'status')).includes(
      `port ${excluded}: REFUSED: the rules leave it alone`,
    ),
  );
  expect((await store().examine()).outcomes['agent transparent']).toBe('fail');
  await waitUntil('the server has the record', async () => {
    const { items } = await rig.shop.mesh.control.picketJson(accessPage, 'audit', 'access', '--limit', '20');
    return items.some((each) => each.decision_id === denial.decision_id && each.reason === denial.reason);
  });
  expect((await rig.accessLog()).filter((line) => line.startsWith(store().host.ipv4))).toEqual([]);
});

test('a listener that does not ask shares no port with one that does', async () => {
  const refused = await rig.shop.mesh.control.picket(
    'entry',
    'create',
    'spiffe://example.org/invoices',
    '--parent',
    'spiffe://example.org/picket/agent/join_token/store',
    '--selector',
    'unix:uid:1',
    '--listen',
    `${http}/http`,
  );
  expect(refused.stderr).toContain('as http from the caller');
});

test('the rules and routes go with the last listener that asks, and the host’s own address is seen again', async () => {
  await rig.registerInvoices(['80', `${http}/http`, `${http2}/auto`]);
  await waitUntil(
    'the host is seen',
    async () => (await rig.ask(url())).body === `from ${store().host.ipv4}\n`,
  );
  // The agent itself hears of it first, and then has its rules loaded.
  await waitUntil('the rules follow', async () =>
    (await store().host.runOk('nft', 'list', 'ruleset')).includes('tcp dport { 5432, 9000 } counter'),
  );
  await rig.registerInvoices(['80', `${http}/http/transparent`]);
  await waitUntil('the caller is seen', isSeen);
});

test('picket agent capture remove takes rule and route away', async () => {
  await store().stop();
  expect(await returnRoutesOf(store().host)).toContain('fwmark');
  await store().picketOk('agent', 'capture', 'remove');
  expect(await returnRoutesOf(store().host)).toBe('');
  expect(await store().host.runOk('nft', 'list', 'ruleset')).not.toContain('picket');
});
