import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { run } from '../../tests/kit/child.ts';
import type { TestHost } from '../../tests/kit/netns.ts';
import { createCapturedNetwork, STRICT, type CapturedNetwork } from './fixtures/captured-network.ts';

setDefaultTimeout(60_000);

/** What programs of a host see of capture by eBPF, call by call. */

let net: CapturedNetwork;
let here: TestHost;
let outside: TestHost;
const LOCAL_PORT = 5432;
const UDP_PORT = 9053;

beforeAll(async () => {
  net = await createCapturedNetwork('ebpf');
  ({ captured: here, outside } = net);
  await net.startAgent();
  const allowUdp = [{ address: outside.ipv4, port: UDP_PORT }];
  await net.capture.apply({ ...STRICT, localPorts: [LOCAL_PORT], allowUdp });
});
afterAll(() => net.remove());

/** Perl with sockets; `$here` and `$outside` are addresses of IPv4, `$here6` and `$outside6` of IPv6. What it printed. */
async function perl(...lines: readonly string[]): Promise<string> {
  const program = [
    'use Socket qw(:all); use strict;',
    `my ($here, $outside, $here6, $outside6) = ('${here.ipv4}', '${outside.ipv4}', '${here.ipv6}', '${outside.ipv6}');`,
    'sub v4 { pack_sockaddr_in($_[1], inet_aton($_[0])) }',
    'sub v6 { pack_sockaddr_in6($_[1], inet_pton(AF_INET6, $_[0])) }',
    'sub name4 { my ($p, $a) = unpack_sockaddr_in($_[0]); inet_ntoa($a) . " $p" }',
    'sub name6 { my ($p, $a) = unpack_sockaddr_in6($_[0]); inet_ntop(AF_INET6, $a) . " $p" }',
    'sub said { my ($s) = @_; syswrite $s, "hello\\n"; sysread $s, my $answer, 200; print $answer; }',
    ...lines,
  ].join('\n');
  const { stdout, stderr } = await run(here.in('timeout', '5', 'perl', '-e', program), { cwd: '/' });
  expect(stderr).toBe('');
  return stdout;
}

const TCP4 = 'socket(my $s, AF_INET, SOCK_STREAM, 0) or die $!;';
const TCP6 = 'socket(my $s, AF_INET6, SOCK_STREAM, 0) or die $!;';
const UDP4 = 'socket(my $s, AF_INET, SOCK_DGRAM, 0) or die $!;';
const UDP6 = 'socket(my $s, AF_INET6, SOCK_DGRAM, 0) or die $!;';

describe('a captured connection', () => {
  test('has the peer that the program meant, by getpeername(2) and SO_ORIGINAL_DST', async () => {
    const shown = await perl(
      TCP4,
      'connect($s, v4($outside, 80)) or die $!; print name4(getpeername $s), "\\n";',
      'print name4(getsockopt($s, 0, 80)), "\\n"; said($s);',
    );
    const [peer, original, answer] = shown.split('\n');
    expect([peer, original]).toEqual([`${outside.ipv4} 80`, `${outside.ipv4} 80`]);
    expect(answer).toStartWith(`outbound ${outside.ipv4} 80`);
  });

  test('has the peer that the program meant over IPv6', async () => {
    const shown = await perl(
      TCP6,
      'connect($s, v6($outside6, 80)) or die $!; print name6(getpeername $s), "\\n";',
      'print name6(getsockopt($s, 41, 80)), "\\n"; said($s);',
    );
    expect(shown.split('\n').slice(0, 2)).toEqual([`${outside.ipv6} 80`, `${outside.ipv6} 80`]);
    expect(shown).toContain(`outbound ${outside.ipv6} 80`);
  });

  test('is captured from an IPv6 socket that goes to IPv4 by a mapped address', async () => {
    const mapped = `::ffff:${outside.ipv4}`;
    const shown = await perl(
      TCP6,
      `connect($s, v6("${mapped}", 80)) or die $!; print name6(getpeername $s), "\\n"; said($s);`,
    );
    expect(shown.split('\n')[0]).toBe(`${mapped} 80`);
    expect(shown).toContain(`outbound ${outside.ipv4} 80 from 127.0.0.1`);
  });

  test('is captured from a socket that is bound to an address of the host', async () => {
    expect(
      await perl(
        TCP4,
        'bind($s, v4($here, 0)) or die $!; connect($s, v4($outside, 80)) or die $!; said($s);',
      ),
    ).toStartWith(`outbound ${outside.ipv4} 80 from ${here.ipv4} `);
    expect(
      await perl(
        TCP6,
        'bind($s, v6($here6, 0)) or die $!; connect($s, v6($outside6, 80)) or die $!; said($s);',
      ),
    ).toStartWith(`outbound ${outside.ipv6} 80 from ${here.ipv6} `);
  });

  test('is captured where the first data goes with the connection (MSG_FASTOPEN)', async () => {
    const shown = await perl(
      TCP4,
      'defined(send($s, "hello\\n", 0x20000000, v4($outside, 80))) or die $!; sysread $s, my $answer, 200; print $answer;',
    );
    expect(shown).toStartWith(`outbound ${outside.ipv4} 80`);
  });

  test('is not tracked: nothing is translated between the program and the agent', async () => {
    const tracked = async (): Promise<string> => (await run(here.in('conntrack', '-L', '-p', 'tcp'))).stdout;
    // What comes in is.
    await run(outside.in('timeout', '1', 'nc', '-N', here.ipv4, '80'), { stdin: 'hello\n' });
    expect(await tracked()).toContain('dport=80');
    await perl(TCP4, 'connect($s, v4($outside, 80)) or die $!; said($s);');
    expect(await tracked()).not.toContain('port=15001');
  });

  test('is each time where the socket went last', async () => {
    // AF_UNSPEC ends a connection and keeps the socket.
    const shown = await perl(
      TCP4,
      'connect($s, v4($outside, 80)) or die $!; connect($s, pack("S x14", 0)) or die $!;',
      'connect($s, v4($outside, 81)) or die $!; print name4(getpeername $s), "\\n"; said($s);',
    );
    expect(shown).toStartWith(`${outside.ipv4} 81\noutbound ${outside.ipv4} 81`);
  });

  test('to a registered port of the host is captured by each of its addresses, unspecified ones too', async () => {
    for (const address of ['127.0.0.1', '127.9.9.9', '0.0.0.0', here.ipv4]) {
      const meant = address === '0.0.0.0' ? '127.0.0.1' : address;
      expect(
        await perl(TCP4, `connect($s, v4("${address}", ${LOCAL_PORT})) or die $!; said($s);`),
      ).toStartWith(`outbound ${meant} ${LOCAL_PORT}`);
    }
    for (const address of ['::1', '::', '::ffff:0.0.0.0', here.ipv6]) {
      const meant = { '::': '::1', '::ffff:0.0.0.0': '127.0.0.1' }[address] ?? address;
      expect(
        await perl(TCP6, `connect($s, v6("${address}", ${LOCAL_PORT})) or die $!; said($s);`),
      ).toStartWith(`outbound ${meant} ${LOCAL_PORT}`);
    }
  });
});

describe('what is not captured', () => {
  test('is refused where the socket is bound to an interface: it would not reach the agent', async () => {
    // SO_BINDTODEVICE
    const BIND = 'setsockopt($s, SOL_SOCKET, 25, "eth0\\0") or die $!;';
    expect(await perl(TCP4, BIND, 'print connect($s, v4($outside, 80)) ? "through" : "$!";')).toBe(
      'Connection refused',
    );
  });

  test('is refused where it goes to the agent’s own ports', async () => {
    for (const port of [15_001, 15_006]) {
      for (const address of ['127.0.0.1', '0.0.0.0', here.ipv4])
        expect(await perl(TCP4, `print connect($s, v4("${address}", ${port})) ? "through" : "$!";`)).toBe(
          'Connection refused',
        );
      expect(await perl(TCP6, `print connect($s, v6("::1", ${port})) ? "through" : "$!";`)).toBe(
        'Connection refused',
      );
    }
  });

  test('leaves other options and other sockets as they are', async () => {
    const shown = await perl(
      TCP4,
      'connect($s, v4($outside, 80)) or die $!;',
      'print unpack("i", getsockopt($s, SOL_SOCKET, SO_TYPE)), " ";',
      'socket(my $t, AF_INET, SOCK_STREAM, 0) or die $!; print defined(getsockopt($t, 0, 80)) ? "answered" : "silent";',
    );
    expect(shown).toBe('1 silent');
  });
});

describe('UDP', () => {
  const tried = (address: string): string[] => [
    `print defined(send($s, "x", 0, ${address})) ? "sent" : "$!", ", ";`,
    `print connect($s, ${address}) ? "connected" : "$!";`,
  ];

  test('leaves to what is allowed, and to nothing else', async () => {
    expect(await perl(UDP4, ...tried(`v4($outside, ${UDP_PORT})`))).toBe('sent, connected');
    for (const denied of [`v4($outside, ${UDP_PORT + 1})`, `v4("10.9.0.9", ${UDP_PORT})`])
      expect(await perl(UDP4, ...tried(denied))).toBe('Operation not permitted, Operation not permitted');
    expect(await perl(UDP6, ...tried(`v6($outside6, ${UDP_PORT})`))).toBe(
      'Operation not permitted, Operation not permitted',
    );
  });

  test('is decided by mapped addresses as by plain ones', async () => {
    expect(await perl(UDP6, ...tried(`v6("::ffff:$outside", ${UDP_PORT})`))).toBe('sent, connected');
    expect(await perl(UDP6, ...tried(`v6("::ffff:$outside", ${UDP_PORT + 1})`))).toBe(
      'Operation not permitted, Operation not permitted',
    );
  });

  test('stays free on the host itself', async () => {
    for (const address of ['127.0.0.1', here.ipv4])
      expect(await perl(UDP4, ...tried(`v4("${address}", 9999)`))).toBe('sent, connected');
    expect(await perl(UDP6, ...tried('v6("::1", 9999)'))).toBe('sent, connected');
  });
});
