import { afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createTestNetwork, requireRoot } from '../../tests/kit/netns.ts';
import { run, runOk } from '../../tests/kit/child.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import {
  destroyTcpConnection,
  findExactTcpConnection,
  findOnlyTcpConnectionFrom,
  findTcpConnection,
  findTcpListeners,
  findUdpSender,
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
      expect(findOnlyTcpConnectionFrom(near)).toEqual(found);
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

describe('findUdpSender()', () => {
  const REMOTE = { address: '192.0.2.1', port: 9 };

  test('finds the only one at a port, and nobody where several, or any number of others, are there', async () => {
    const alone = await holdUdp({ address: '127.0.0.1', count: 1 });
    expect(findUdpSender({ address: '127.0.0.1', port: alone }, REMOTE)?.local.port).toBe(alone);
    expect(findUdpSender({ address: '127.0.0.2', port: alone }, REMOTE)).toBeUndefined();
    const shared = await holdUdp({ address: '127.0.0.1', count: 2 });
    expect(findUdpSender({ address: '127.0.0.1', port: shared }, REMOTE)).toBeUndefined();
    const crowded = await holdUdp({ address: '127.0.0.1', count: 4200 });
    // None of them is at the second address: one has to give up all the same.
    for (const address of ['127.0.0.1', '127.0.0.2'])
      expect(findUdpSender({ address, port: crowded }, REMOTE)).toBeUndefined();
    // What is left of that answer is not taken for the next one.
    expect(findUdpSender({ address: '127.0.0.1', port: alone }, REMOTE)?.local.port).toBe(alone);
  });

  test('is as quick where thousands share a port as where some do', async () => {
    const port = await holdUdp({ address: '127.0.0.1', count: 4000 });
    const before = process.cpuUsage();
    for (let i = 0; i < 100; i++) findUdpSender({ address: '127.0.0.1', port }, REMOTE);
    const { user, system } = process.cpuUsage(before);
    // In microseconds of this process, however busy the machine is: it takes 400; to list all of them takes 4000.
    expect((user + system) / 100).toBeLessThan(2000);
  });
});

/** Has another process hold UDP sockets at one port, which it takes; the port. */
async function holdUdp({
  address,
  count,
}: {
  readonly address: string;
  readonly count: number;
}): Promise<number> {
  const program = [
    'import resource, socket, sys',
    'resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))',
    'port, held = 0, []',
    `for _ in range(${count}):`,
    '    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)',
    '    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)',
    `    one.bind(("${address}", port))`,
    '    port = one.getsockname()[1]',
    '    held.append(one)',
    'print(port, flush=True)',
    'sys.stdin.read()',
  ];
  const child = Bun.spawn(['/usr/bin/python3', '-c', program.join('\n')], { stdin: 'pipe', stdout: 'pipe' });
  open.push({ close: () => child.kill() });
  const { value } = await child.stdout.getReader().read();
  return Number(Buffer.from(value ?? []).toString());
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
