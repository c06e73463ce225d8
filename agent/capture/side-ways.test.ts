import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { realpathSync } from 'node:fs';
import { run } from '../../tests/kit/child.ts';
import type { TestHost } from '../../tests/kit/netns.ts';
import {
  asUser,
  createCapturedNetwork,
  NOBODY,
  STRICT,
  waitForListener,
  Pipe,
  type CapturedNetwork,
} from './fixtures/captured-network.ts';

setDefaultTimeout(60_000);

/** By what any user could send something out of the host that nobody has decided, beside connections and datagrams of his own. */

const AGENT_PORT = 15_001;
const MESH_PORT = 15_008;
const LOCAL_PORT = 5433;

/** Others can read neither the checkout nor what a version manager installed. */
const PYTHON = realpathSync('/usr/bin/python3');

/** Asks for echoes of many bytes for two seconds, as fast as it may. */
const ECHOES = `
import socket, struct, sys, time
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM, 58 if ":" in sys.argv[1] else 1)
kind, size = (128 if ":" in sys.argv[1] else 8), int(sys.argv[2])
end = time.monotonic() + 2
while time.monotonic() < end:
    try: s.sendto(struct.pack("!BBHI", kind, 0, 0, 0) + b"x" * size, (sys.argv[1], 0))
    except OSError: time.sleep(0.001)
`;

/** Connects from an address to a port of another one, and waits whether somebody answers: python3 -c ... FROM TO PORT. */
const CALL_FROM = `
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); s.settimeout(1)
IPV6_FREEBIND = 78
s.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1); s.bind((sys.argv[1], 0))
try: s.connect((sys.argv[2], int(sys.argv[3]))); print("connected")
except OSError as error: print(error)
`;

/** Sends datagrams, of UDP, of UDP-Lite and of echoes, from an address to another one, where nobody takes them: python3 -c ... FROM TO. */
const SEND_FROM = `
import socket, struct, sys
IPV6_FREEBIND = 78
echo = struct.pack("!BBHI", 128, 0, 0, 0)
for protocol, port, head in ((socket.IPPROTO_UDP, 9, b""), (136, 9, b""), (socket.IPPROTO_ICMPV6, 0, echo)):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, protocol)
    s.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1); s.bind((sys.argv[1], 0))
    try: s.sendto(head + b"x" * 1000, (sys.argv[2], port)); print("sent")
    except PermissionError: print("not permitted")
`;

describe.each(['nftables', 'ebpf'] as const)('with capture by %s', (backend) => {
  let net: CapturedNetwork;
  let here: TestHost;
  let outside: TestHost;

  beforeAll(async () => {
    net = await createCapturedNetwork(backend);
    ({ captured: here, outside } = net);
    await net.startAgent();
    await net.capture.apply(STRICT);
    await here.runOk('sysctl', '-qw', 'net.ipv4.ping_group_range=0 2147483647');
    const counters = [
      'meta l4proto { icmp, icmpv6 } meta length > 100 counter name echoes',
      `tcp sport { 80, ${LOCAL_PORT}, ${AGENT_PORT}, ${MESH_PORT} } counter name answers`,
    ];
    const table = `table inet seen { counter echoes {}; counter answers {}; chain in { type filter hook prerouting priority -500; ${counters.join('; ')}; }; }`;
    await outside.runOk('nft', table);
  });
  afterAll(() => net.remove());

  /** What came to the other host since it was asked last. */
  async function count(name: 'echoes' | 'answers'): Promise<{ packets: number; bytes: number }> {
    const told = await outside.runOk('nft', 'reset', 'counter', 'inet', 'seen', name);
    const [, packets, bytes] = /packets (\d+) bytes (\d+)/.exec(told) ?? [];
    return { packets: Number(packets), bytes: Number(bytes) };
  }

  async function asNobody(program: string, ...args: readonly string[]): Promise<string> {
    const command = asUser(NOBODY, [PYTHON, '-c', program, ...args]);
    const { stdout, stderr } = await run(here.in(...command), { cwd: '/' });
    expect(stderr).toBe('');
    return stdout;
  }

  test.each(['ipv4', 'ipv6'] as const)(
    'echoes over %s carry a few kilobytes, however large they are',
    async (family) => {
      for (const size of [1400, 8000, 60_000]) {
        // What may come at once may do so again.
        await net.capture.apply(STRICT);
        await count('echoes');
        await asNobody(ECHOES, outside[family], String(size));
        const { packets, bytes } = await count('echoes');
        expect(packets > 0).toBe(size < 16 * 1024);
        // What may come at once, and in the time that the program takes.
        expect(bytes).toBeLessThan(40 * 1024);
      }
    },
  );

  test('what has a source address that is not the host’s is answered by nobody, and so nothing leaves for it', async () => {
    const server = new Pipe(here.in('nc', '-l', '-k', '::', String(LOCAL_PORT)));
    await waitForListener(here, LOCAL_PORT);
    const calls = [
      [outside.ipv6, 80],
      [here.ipv6, LOCAL_PORT],
      ['::1', LOCAL_PORT],
      [here.ipv6, MESH_PORT],
      ['::1', MESH_PORT],
    ] as const;
    await count('answers');
    for (const [to, port] of calls)
      expect(await asNobody(CALL_FROM, outside.ipv6, to, String(port))).toBe('timed out\n');
    expect(await count('answers')).toEqual({ packets: 0, bytes: 0 });
    await count('echoes');
    for (const to of [here.ipv6, '::1'])
      // Of an echo nobody is told that it was dropped.
      expect(await asNobody(SEND_FROM, outside.ipv6, to)).toBe(`${'not permitted\n'.repeat(2)}sent\n`);
    expect(await count('echoes')).toEqual({ packets: 0, bytes: 0 });
    // The host's own addresses are as good as ever.
    for (const from of [here.ipv6, '::1'])
      expect(await asNobody(CALL_FROM, from, here.ipv6, String(LOCAL_PORT))).toBe('connected\n');
    for (const from of [here.ipv6, '::1'])
      expect(await asNobody(SEND_FROM, from, here.ipv6)).toBe('sent\n'.repeat(3));
    expect(await asNobody(CALL_FROM, here.ipv6, outside.ipv6, '80')).toBe('connected\n');
    await server.stop();
  });
});
