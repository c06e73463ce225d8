import { afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createTestNetwork, requireRoot } from '../../tests/kit/netns.ts';
import { run, runOk } from '../../tests/kit/child.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { closeDescriptor, dialMarked } from './dial.ts';
import { openTcpListener } from './listening-socket.ts';
import { NetworkNamespace } from './network-namespace.ts';
import {
  destroyTcpConnection,
  findExactTcpConnection,
  findOnlyTcpConnectionFrom,
  findTcpConnection,
  findTcpListeners,
  findUdpSenders,
} from './sock-diag.ts';

const open: { destroy?: () => void; close?: () => void }[] = [];

afterEach(() => {
  for (const each of open.splice(0)) {
    each.destroy?.();
    each.close?.();
  }
});

beforeAll(() => requireRoot('network namespaces'));

describe('destroyTcpConnection()', () => {
  test.each(['127.0.0.1', '::1'])(
    'ends that very connection at %s, whose program gets ECONNABORTED, and no other',
    async (address) => {
      const { server, port } = await listenOn(address);
      const accepted = once(server, 'connection') as Promise<[Socket]>;
      const client = await dialTo(port, address);
      open.push((await accepted)[0]);
      const near = { address, port: client.localPort ?? 0 };
      const found = findExactTcpConnection(near, { address, port });
      expect(found).toMatchObject({ inode: inodeOf(client) });
      expect(findOnlyTcpConnectionFrom(near, { besideMark: 1 })).toEqual(found);
      expect(destroyTcpConnection({ ...found!, cookie: found!.cookie + 1n })).toBe(false);
      const failed = once(client, 'error') as Promise<[NodeJS.ErrnoException]>;
      expect(destroyTcpConnection(found!)).toBe(true);
      client.resume();
      expect((await failed)[0].code).toBe('ECONNABORTED');
      expect(findExactTcpConnection(near, { address, port })).toBeUndefined();
      expect(destroyTcpConnection(found!)).toBe(false);
    },
  );
});

test('findOnlyTcpConnectionFrom() finds a program whose port another one has too, and which of them is marked', async () => {
  const network = await createTestNetwork(1);
  const [host] = network.hosts;
  using namespace = NetworkNamespace.open('host', `/run/netns/${host!.name}`);
  const fds: number[] = [];
  try {
    // The kernel has no other port to give.
    await host!.runOk('sysctl', '-qw', 'net.ipv4.ip_local_port_range=40001 40001');
    const connectTo = (port: number, mark: number): void => {
      fds.push(openTcpListener({ address: '127.0.0.1', port }, { namespace }));
      fds.push(dialMarked({ address: '127.0.0.1', port, mark, namespace }));
    };
    connectTo(4801, 0);
    connectTo(4802, 7);
    const findBeside = (besideMark: number): number | undefined =>
      findOnlyTcpConnectionFrom({ address: '127.0.0.1', port: 40_001 }, { namespace, besideMark })?.remote
        .port;
    expect([findBeside(7), findBeside(0), findBeside(8)]).toEqual([4801, 4802, undefined]);
    connectTo(4803, 0);
    expect(findBeside(7)).toBeUndefined();
  } finally {
    for (const fd of fds) closeDescriptor(fd);
    await network.remove();
  }
});

describe('findTcpConnection()', () => {
  const families = [
    { name: 'IPv4', listen: '127.0.0.1', dial: '127.0.0.1', address: '127.0.0.1' },
    { name: 'IPv6', listen: '::1', dial: '::1', address: '::1' },
    {
      name: 'an IPv6 socket that speaks IPv4',
      listen: '127.0.0.1',
      dial: '::ffff:127.0.0.1',
      address: '127.0.0.1',
    },
  ];
  test.each(families)('finds either end over $name', async ({ listen, dial, address }) => {
    const { server, port } = await listenOn(listen);
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = await dialTo(port, dial);
    const [serverSide] = await accepted;
    open.push(serverSide);
    const near = { address, port: client.localPort ?? 0 };
    const far = { address, port };
    expect(findTcpConnection(near, far)).toMatchObject({
      local: near,
      remote: far,
      inode: inodeOf(client),
      uid: 0,
    });
    expect(findTcpConnection(far, near)).toMatchObject({ inode: inodeOf(serverSide) });
  });

  test('finds nothing where there is no connection, not even the listener at that address', async () => {
    const { port } = await listenOn('127.0.0.1');
    const stranger = { address: '127.0.0.1', port: 1 };
    expect(findTcpConnection({ address: '127.0.0.1', port }, stranger)).toBeUndefined();
    expect(findTcpConnection({ address: '127.0.0.1', port }, { address: '::1', port: 1 })).toBeUndefined();
  });

  test('names no holder once the process has closed its end', async () => {
    const { server, port } = await listenOn('127.0.0.1');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = await dialTo(port, '127.0.0.1');
    const [serverSide] = await accepted;
    open.push(serverSide.pause());
    const near = { address: '127.0.0.1', port: client.localPort ?? 0 };
    expect(findTcpConnection(near, { address: '127.0.0.1', port })?.inode).toBeGreaterThan(0);
    client.destroy();
    await waitUntil('the end is orphaned or gone', () => {
      return (findTcpConnection(near, { address: '127.0.0.1', port })?.inode ?? 0) === 0;
    });
  });

  test('finds a socket that is bound to an interface', async () => {
    const { port } = await listenOn('127.0.0.1');
    const program = [
      'use IO::Socket::IP; $| = 1; socket my $s, AF_INET, SOCK_STREAM, 0;',
      // SO_BINDTODEVICE
      'setsockopt $s, SOL_SOCKET, 25, "lo\\0" or die $!;',
      `connect $s, pack_sockaddr_in(${port}, inet_aton("127.0.0.1")) or die $!;`,
      'print +(unpack_sockaddr_in(getsockname $s))[0]; <STDIN>;',
    ];
    const child = Bun.spawn(['perl', '-MSocket=:all', '-e', program.join('\n')], {
      stdin: 'pipe',
      stdout: 'pipe',
    });
    open.push({ close: () => child.kill() });
    const { value } = await child.stdout.getReader().read();
    const near = { address: '127.0.0.1', port: Number(Buffer.from(value ?? []).toString()) };
    const found = findTcpConnection(near, { address: '127.0.0.1', port });
    expect(found).toMatchObject({ local: near, interfaceIndex: 1 });
    expect(found?.inode).toBeGreaterThan(0);
  });

  test('tells who made the socket, and leaves no descriptor behind', async () => {
    const { port } = await listenOn('127.0.0.1');
    const child = Bun.spawn(
      [
        'setpriv',
        '--reuid=4242',
        '--clear-groups',
        'bash',
        '-c',
        `exec 3<>/dev/tcp/127.0.0.1/${port}; echo up; read`,
      ],
      { stdin: 'pipe', stdout: 'pipe' },
    );
    open.push({ close: () => child.kill() });
    await child.stdout.getReader().read();
    const listing = await runOk(['ss', '-Htn', 'state', 'established', `dport = :${port}`]);
    const near = { address: '127.0.0.1', port: Number(/127\.0\.0\.1:(\d+)/.exec(listing)?.[1]) };
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 200; i++) {
      expect(findTcpConnection(near, { address: '127.0.0.1', port })?.uid).toBe(4242);
      expect(findTcpConnection(near, { address: '127.0.0.2', port })).toBeUndefined();
    }
    // Other things come and go meanwhile, but not hundreds.
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(before + 100);
  });

  test('sees the network namespace that it runs in, and no other', async () => {
    const network = await createTestNetwork(1);
    try {
      const [host] = network.hosts;
      const fixture = join(import.meta.dirname, 'fixtures/own-connection.ts');
      const inside = await run(host?.in(process.execPath, fixture, host.ipv4) ?? []);
      expect(JSON.parse(inside.stdout)).toMatchObject({ uid: 0, listeners: 1 });
      const v6 = await run(host?.in(process.execPath, fixture, host.ipv6) ?? []);
      expect(JSON.parse(v6.stdout)).toMatchObject({ uid: 0, listeners: 1 });
    } finally {
      await network.remove();
    }
  });
});

describe('findTcpListeners()', () => {
  test('finds every socket at the port: both families, and those that share it', async () => {
    // Bun's types do not know the option yet.
    const shared = { reusePort: true };
    const first = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data() {} }, ...shared });
    const { port } = first;
    const second = Bun.listen({ hostname: '127.0.0.1', port, socket: { data() {} }, ...shared });
    const third = Bun.listen({ hostname: '::1', port, socket: { data() {} } });
    try {
      const found = findTcpListeners(port);
      expect(found.map(({ local }) => local.address).toSorted()).toEqual(['127.0.0.1', '127.0.0.1', '::1']);
      expect(new Set(found.map(({ inode }) => inode)).size).toBe(3);
    } finally {
      for (const listener of [first, second, third]) listener.stop(true);
    }
    expect(findTcpListeners(port)).toEqual([]);
  });

  test('refuses more than it can list, and what is left of that answer is not taken for the next one', async () => {
    const { port } = await listenOn('127.0.0.1');
    const own = findTcpListeners(port);
    expect(own).toHaveLength(1);
    const program = join(import.meta.dirname, 'fixtures/hold-socket.py');
    const child = Bun.spawn(['/usr/bin/python3', program, 'shared'], { stdin: 'pipe', stdout: 'pipe' });
    open.push({ close: () => child.kill() });
    const { value } = await child.stdout.getReader().read();
    const crowded = Number.parseInt(Buffer.from(value ?? []).toString(), 10);
    for (let i = 0; i < 3; i++) {
      expect(() => findTcpListeners(crowded)).toThrow('more than');
      expect(findTcpListeners(port)).toEqual(own);
    }
  });

  test('tells a listener of IPv6 alone from one that takes IPv4 too', async () => {
    const dual = createServer();
    const alone = createServer();
    dual.listen(0, '::');
    alone.listen({ port: 0, host: '::', ipv6Only: true });
    open.push(dual, alone);
    await Promise.all([once(dual, 'listening'), once(alone, 'listening')]);
    const isOnly = (server: Server): boolean | undefined => findTcpListeners(portOf(server))[0]?.isIpv6Only;
    expect([isOnly(dual), isOnly(alone)]).toEqual([false, true]);
  });
});

describe('findUdpSenders()', () => {
  const REMOTE = { address: '192.0.2.1', port: 9 };
  /** As `local: remote` of each socket from which a datagram of that address and port may have come. */
  const sendersOf = (address: string, port: number, isOfUser = true): readonly string[] =>
    findUdpSenders({ local: { address, port }, remote: REMOTE }, { mayBeOf: () => isOfUser })
      .map(({ local, remote }) => `${local.address}: ${remote.port}`)
      .toSorted();

  test('finds all that may send from an address, by IP_PKTINFO too, whatever they are bound and connected to', async () => {
    const { port, sent } = await holdUdp(
      '127.0.0.1',
      '127.0.0.2',
      '127.0.0.2 connected',
      '::ffff:127.0.0.3',
      '::1',
    );
    // Each of the IPv4 ones sent from 127.0.0.9, where none of them is.
    expect(sent).toEqual(['yes', 'yes', 'yes', 'yes', 'no']);
    const all = ['127.0.0.1: 0', '127.0.0.2: 0', '127.0.0.2: 9', '127.0.0.3: 0'];
    expect(sendersOf('127.0.0.1', port)).toEqual(all);
    expect(sendersOf('127.0.0.9', port)).toEqual(all);
    expect(sendersOf('fd77::9', port)).toEqual(['127.0.0.3: 0', '::1: 0']);
  });

  test('finds of users who cannot have sent only what gets the answers', async () => {
    const { port } = await holdUdp('127.0.0.1', '127.0.0.2', '127.0.0.2 connected', '0.0.0.0');
    expect(sendersOf('127.0.0.1', port, false)).toEqual(['0.0.0.0: 0', '127.0.0.1: 0']);
    expect(sendersOf('127.0.0.9', port, false)).toEqual(['0.0.0.0: 0']);
  });

  test('finds nobody where any number of others are there', async () => {
    const { port: alone } = await holdUdp('127.0.0.1');
    const { port: crowded } = await holdUdp(...Array.from({ length: 4200 }, () => '127.0.0.1'));
    for (const address of ['127.0.0.1', '127.0.0.2']) expect(sendersOf(address, crowded)).toEqual([]);
    // What is left of that answer is not taken for the next one.
    expect(sendersOf('127.0.0.1', alone)).toEqual(['127.0.0.1: 0']);
  });

  test('is as quick where thousands share a port as where some do', async () => {
    const { port } = await holdUdp(...Array.from({ length: 4000 }, () => '127.0.0.1'));
    const before = process.cpuUsage();
    for (let i = 0; i < 100; i++) sendersOf('127.0.0.1', port);
    const { user, system } = process.cpuUsage(before);
    // In microseconds of this process, however busy the machine is: it takes 400; to list all of them takes 4000.
    expect((user + system) / 100).toBeLessThan(2000);
  });
});

/** Has another process hold UDP sockets at one port, which it takes, each at an address; the port, and whether each could send from 127.0.0.9. */
async function holdUdp(
  ...sockets: readonly string[]
): Promise<{ readonly port: number; readonly sent: readonly string[] }> {
  const program = `
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(('127.0.0.1', 0))
source = (socket.IPPROTO_IP, 8, bytes(4) + socket.inet_aton('127.0.0.9') + bytes(4)) # IP_PKTINFO
def send(one):
    try:
        at = '127.0.0.1' if one.family == socket.AF_INET else '::ffff:127.0.0.1'
        one.sendmsg([b'x'], [source], 0, (at, sink.getsockname()[1]))
        return 'yes' if sink.recvfrom(9)[1] == ('127.0.0.9', port) else 'no'
    except OSError:
        return 'no'
port, held, sent = 0, [], []
for asked in sys.stdin.readline().split(','):
    address, *connects = asked.split()
    one = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((address, port))
    port = one.getsockname()[1]
    if connects:
        one.connect(('127.0.0.2', 9))
    held.append(one)
    if len(held) < 10:
        sent.append(send(one))
print(' '.join([str(port), *sent]), flush=True)
sys.stdin.read()`;
  const child = Bun.spawn(['/usr/bin/python3', '-c', program], { stdin: 'pipe', stdout: 'pipe' });
  open.push({ close: () => child.kill() });
  void child.stdin.write(`${sockets.join(',')}\n`);
  void child.stdin.flush();
  const { value } = await child.stdout.getReader().read();
  const [port, ...sent] = Buffer.from(value ?? [])
    .toString()
    .trim()
    .split(' ');
  return { port: Number(port), sent };
}

async function listenOn(host: string): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer((socket) => open.push(socket)).listen(0, host);
  open.push(server);
  await once(server, 'listening');
  return { server, port: portOf(server) };
}

async function dialTo(port: number, host: string): Promise<Socket> {
  const client = connect(port, host);
  open.push(client);
  await once(client, 'connect');
  return client;
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The server does not listen');
  return address.port;
}

function inodeOf(socket: Socket): number {
  const { fd } = (socket as unknown as { readonly _handle: { readonly fd: number } })._handle;
  return statSync(`/proc/self/fd/${fd}`).ino;
}
