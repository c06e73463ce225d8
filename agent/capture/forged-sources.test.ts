import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { Child, run } from '../../tests/kit/child.ts';
import type { TestHost } from '../../tests/kit/netns.ts';
import { createPod, podAddresses, routeToPods, type TestPod } from '../../tests/kit/pods.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import {
  createCapturedNetwork,
  STRICT,
  waitForListener,
  type CapturedNetwork,
} from './fixtures/captured-network.ts';

setDefaultTimeout(60_000);

/** What root in a pod, who has undone the rules there, can have the host send to others in his place, by an address of theirs that he gives as his own. */

const UDP_PORT = 9053;
const MESH_PORT = 15_008;
/** Where nobody is. */
const BEYOND = { ipv4: '10.9.0.9', ipv6: 'fd09::9' } as const;

/** Sends, from an address that it chooses: datagrams that are to be forwarded and have come their last hop, and the first packets of connections to the host: python3 -c ... FROM BEYOND HOST PORT... */
const FORGE = `
import socket, struct, sys
source, beyond, host, *ports = sys.argv[1:]
family = socket.AF_INET6 if ":" in source else socket.AF_INET
s = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
pack = lambda address: socket.inet_pton(family, address)
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total >> 16) + (total & 0xffff)
    return ~total & 0xffff
def send(to, protocol, hops, payload):
    if family == socket.AF_INET6: head = struct.pack("!IHBB", 0x60000000, len(payload), protocol, hops)
    else: head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, hops, protocol, 0)
    s.sendto(head + pack(source) + pack(to) + payload, (to, 0))
def opening(to, port):
    head = struct.pack("!HHIIBBHHH", 4321, port, 0x41424344, 0, 0x50, 2, 1000, 0, 0)
    sum_ = checksum(pack(source) + pack(to) + struct.pack("!II", len(head), 6) + head)
    return head[:16] + struct.pack("!H", sum_) + head[18:]
for _ in range(3): send(beyond, 17, 1, struct.pack("!HHHH", 1234, 9, 508, 0xffff if ":" in source else 0) + b"x" * 500)
for port in ports: send(host, 6, 64, opening(host, int(port)))
`;

/** Answers a datagram late. */
const ANSWER_LATE = `
import socket, sys, time
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(("::", ${UDP_PORT}))
while True:
    _, who = s.recvfrom(100); time.sleep(0.3); s.sendto(b"late", who)
`;
/** Asks, and does not wait for the answer. */
const ASK_AND_LEAVE = `
import socket, sys
socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM).sendto(b"?", (sys.argv[1], ${UDP_PORT}))
`;

let net: CapturedNetwork;
let here: TestHost;
let outside: TestHost;
let pod: TestPod;

beforeAll(async () => {
  net = await createCapturedNetwork('nftables');
  ({ captured: here, outside } = net);
  const network = { number: 1, host: here };
  pod = await createPod(`pk${process.pid}forger`, { network, last: 2 });
  await routeToPods(outside, network);
  await here.runOk('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  await net.startAgent();
  const { ipv4, ipv6 } = podAddresses(network, 2);
  const allowUdp = [outside.ipv4, outside.ipv6].map((address) => ({ address, port: UDP_PORT }));
  await net.capture.apply({ ...STRICT, namespaceAddresses: [ipv4, ipv6], allowUdp });
  const counters = [
    'icmp type time-exceeded counter name expired',
    'icmpv6 type time-exceeded counter name expired',
    'meta l4proto { icmp, icmpv6 } meta length > 40 counter name errors',
    `tcp sport { 80, ${MESH_PORT} } counter name answers`,
  ];
  const names = ['expired', 'errors', 'answers'].map((name) => `counter ${name} {};`).join(' ');
  const chain = `chain in { type filter hook prerouting priority -500; ${counters.join('; ')}; }`;
  for (const host of [outside, pod]) await host.runOk('nft', `table inet seen { ${names} ${chain}; }`);
});
afterAll(async () => {
  await pod.remove();
  await net.remove();
});

/** Packets that came to a host since it was asked last. */
async function count(at: Pick<TestHost, 'runOk'>, name: 'expired' | 'errors' | 'answers'): Promise<number> {
  const told = await at.runOk('nft', 'reset', 'counter', 'inet', 'seen', name);
  return Number(/packets (\d+)/.exec(told)?.[1]);
}

describe.each(['ipv4', 'ipv6'] as const)('over %s', (family) => {
  test('the host sends no data of a pod to anybody by its errors', async () => {
    await pod.runOk('python3', '-c', FORGE, outside[family], BEYOND[family], here[family]);
    expect(await count(outside, 'expired')).toBe(0);
  });

  test('the host answers whoever calls from a pod to the addresses of that pod alone', async () => {
    const call = async (source: string): Promise<string> =>
      await pod.runOk('python3', '-c', FORGE, source, outside[family], here[family], '80', `${MESH_PORT}`);
    await call(pod[family]);
    await waitUntil('both are answered', async () => (await count(pod, 'answers')) >= 2);
    await count(outside, 'answers');
    await call(outside[family]);
    expect(await count(outside, 'answers')).toBe(0);
  });

  test('an error still comes of what was allowed', async () => {
    const server = new Child({
      command: outside.in('python3', '-c', ANSWER_LATE),
      logFile: join(net.folder, `late-${family}.log`),
    });
    await waitForListener(outside, UDP_PORT, 'udp');
    await count(outside, 'errors');
    await run(here.in('python3', '-c', ASK_AND_LEAVE, outside[family]), { cwd: '/' });
    await waitUntil('nobody is there any more', async () => (await count(outside, 'errors')) > 0);
    await server.stop('SIGKILL');
  });
});
