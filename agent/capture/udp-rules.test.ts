import { afterAll, beforeAll, expect, test } from 'bun:test';
import { runOk } from '../../tests/kit/child.ts';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { createPod, routeToPods, type PodNetwork, type TestPod } from '../../tests/kit/pods.ts';
import { SAMPLE_SETTINGS } from './contract.ts';
import { renderNftRules } from './nft-rules.ts';
import { UDP_FORWARD_SETS, UDP_SETS } from './udp-rules.ts';

const PORT = 5000;
const FAR_PORT = 9000;
/** Of `allowUdp`, and of `resolvers`. */
const ALLOWED_PORT = 53;
const RESOLVER_PORT = 54;

/** Listens at a port, having asked the other end first where it is to, and tells what it got until the far end itself was heard, and a little longer. */
const LISTENER = `
import socket, sys
address, port, far, far_port, asks = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
own = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
own.bind((address, port))
if asks == 'asks': own.sendto(b'question', (far, far_port))
print('ready', flush=True)
own.settimeout(10)
try:
    while True:
        text = own.recv(100).decode()
        print(text, flush=True)
        if text == 'far': own.settimeout(0.3)
except OSError: pass
`;

const SENDER = `
import socket, sys
address, port, to, to_port, text = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
own = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
own.bind((address, port))
for _ in range(3): own.sendto(text.encode(), (to, to_port))
`;

let net: TestNetwork;
let host: TestHost;
let far: TestHost;
let network: PodNetwork;
let asking: TestPod;
let neighbour: TestPod;
let bridged: TestPod;

beforeAll(async () => {
  net = await createTestNetwork(2);
  [host, far] = net.hosts as [TestHost, TestHost];
  network = { number: 1, host };
  await routeToPods(far, network);
  for (const setting of ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'])
    await host.runOk('sysctl', '-qw', setting);
  // What stands between the pods here is the rules.
  for (const at of ['all', 'default']) await host.runOk('sysctl', '-qw', `net.ipv4.conf.${at}.rp_filter=0`);
  const make = async (last: number): Promise<TestPod> =>
    await createPod(`${host.name}p${last}`, { network, last });
  asking = await make(2);
  neighbour = await make(3);
  bridged = await make(4);
  await host.runOk('ip', 'link', 'add', 'cni0', 'type', 'bridge');
  await host.runOk('ip', 'link', 'set', 'cni0', 'up');
  await host.runOk('ip', 'link', 'set', 'pod4', 'master', 'cni0');
  await host.runOk('ip', 'route', 'replace', `${bridged.ipv4}/32`, 'dev', 'cni0');
  await host.runOk('ip', '-6', 'route', 'replace', `${bridged.ipv6}/128`, 'dev', 'cni0');
  await host.runOk('ip', 'addr', 'add', '10.8.1.1/32', 'dev', 'cni0');
  await host.runOk('ip', 'addr', 'add', 'fd08:1::1/128', 'dev', 'cni0', 'nodad');
  const script = renderNftRules({
    ...SAMPLE_SETTINGS,
    decidesUdp: true,
    allowUdp: [
      { address: `${far.ipv4}/32`, port: ALLOWED_PORT },
      { address: `${far.ipv6}/128`, port: ALLOWED_PORT },
    ],
    resolvers: [
      { address: far.ipv4, port: RESOLVER_PORT },
      { address: far.ipv6, port: RESOLVER_PORT },
    ],
    namespaceAddresses: ['10.8.1.0/24', 'fd08:1::/64'],
  });
  await runOk(host.in('nft', '-f', '-'), { stdin: script });
  for (const family of ['ip', 'ip6'] as const) await admit(family);
  // Root in a pod takes the address of the far end.
  for (const pod of [neighbour, bridged])
    for (const address of [`${far.ipv4}/32`, `${far.ipv6}/128`])
      await pod.runOk('ip', 'addr', 'add', address, 'dev', 'lo', ...(address.includes(':') ? ['nodad'] : []));
});

afterAll(async () => {
  for (const pod of [asking, neighbour, bridged]) await pod.remove();
  await net.remove();
});

/** As the agent does: a flow of the host, and one of the pod. */
async function admit(family: 'ip' | 'ip6'): Promise<void> {
  const own = host[addressOf(family)];
  const end = far[addressOf(family)];
  const ends = (address: string): string => `${address} . ${PORT} . ${end} . ${FAR_PORT}`;
  const add = async (set: string, element: string): Promise<void> =>
    void (await host.runOk('nft', `add element inet picket ${set} { ${element} timeout 10m }`));
  await add(UDP_SETS.answers[family], ends(own));
  await add(UDP_FORWARD_SETS.flows[family], `pod2 . ${ends(asking[addressOf(family)])}`);
  await add(UDP_FORWARD_SETS.answers[family], `pod2 . ${ends(asking[addressOf(family)])}`);
}

function addressOf(family: 'ip' | 'ip6'): 'ipv4' | 'ipv6' {
  return family === 'ip' ? 'ipv4' : 'ipv6';
}

interface Case {
  readonly family: 'ip' | 'ip6';
  readonly to: () => TestHost;
  readonly farPort: number;
}

/** What somebody at `to` gets that was sent to him from the address of the far end, first by pods that took it, at last by the far end itself. */
async function listen({ family, to, farPort }: Case): Promise<readonly string[]> {
  const listens = to()[addressOf(family)];
  const end = far[addressOf(family)];
  const port = PORT + [FAR_PORT, ALLOWED_PORT, RESOLVER_PORT].indexOf(farPort);
  const asks = farPort === FAR_PORT ? 'waits' : 'asks';
  const command = ['/usr/bin/python3', '-c', LISTENER, listens, `${port}`, end, `${farPort}`, asks];
  const listener = Bun.spawn(to().in(...command), { stdout: 'pipe' });
  const send = async (from: TestHost, text: string): Promise<void> =>
    void (await from.runOk('/usr/bin/python3', '-c', SENDER, end, `${farPort}`, listens, `${port}`, text));
  let heard = '';
  for await (const bytes of listener.stdout) {
    if (heard === '') for (const [from, text] of senders()) await send(from, text);
    heard += Buffer.from(bytes).toString();
  }
  return [...new Set(heard.trim().split('\n').slice(1))];
}

function senders(): readonly (readonly [TestHost, string])[] {
  return [
    [neighbour, 'neighbour'],
    [bridged, 'bridged'],
    [far, 'far'],
  ];
}

for (const family of ['ip', 'ip6'] as const)
  for (const [what, to] of [
    ['the host', () => host],
    ['a pod', () => asking],
  ] as const)
    for (const farPort of [FAR_PORT, ALLOWED_PORT, RESOLVER_PORT])
      test(`the rules let ${what} be answered over ${family} at port ${farPort} by the far end, and by no pod in its place`, async () => {
        expect(await listen({ family, to, farPort })).toEqual(['far']);
      });
