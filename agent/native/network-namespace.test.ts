import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withOtherUsers } from '../../tests/kit/other-users.ts';
import { runOk } from '../../tests/kit/child.ts';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { closeDescriptor, dialMarked } from './dial.ts';
import { openTcpListener } from './listening-socket.ts';
import { readNetnsCookie } from './netns-cookie.ts';
import { NetworkNamespace } from './network-namespace.ts';
import { readRulesetGeneration } from './nftables.ts';
import { findTcpListeners } from './sock-diag.ts';
import { readSocketOption, SOL_SOCKET } from './socket-option.ts';

const SO_SNDBUF = 7;
const SO_RCVBUF = 8;

let network: TestNetwork;
let host: TestHost;
let folder: string;
let opened: NetworkNamespace;

beforeAll(async () => {
  network = await createTestNetwork(1);
  host = network.hosts[0]!;
  folder = mkdtempSync(join(tmpdir(), 'picket-netns-'));
  opened = NetworkNamespace.open('one', `/run/netns/${host.name}`);
});
afterAll(async () => {
  opened[Symbol.dispose]();
  rmSync(folder, { recursive: true });
  await network.remove();
});

const whereWeAre = (): string => readlinkSync('/proc/thread-self/ns/net');

describe('NetworkNamespace.within()', () => {
  test('works in the namespace and is back behind it, also where the work throws', () => {
    const own = whereWeAre();
    expect(opened.within(whereWeAre)).toBe(opened.link);
    expect(whereWeAre()).toBe(own);
    const work = (): string => opened.within(() => JSON.parse('no JSON') as string);
    expect(work).toThrow(SyntaxError);
    expect([whereWeAre(), opened.link === own]).toEqual([own, false]);
    expect(opened.cookie).not.toBe(readNetnsCookie());
  });

  test('is refused from within another one, and leaves it afterwards', () => {
    const own = whereWeAre();
    expect(() => opened.within(() => opened.within(whereWeAre))).toThrow('within another one');
    expect(whereWeAre()).toBe(own);
    expect(opened.within(whereWeAre)).toBe(opened.link);
  });

  test('is refused once it was retired, which its path outlives', async () => {
    using retired = NetworkNamespace.open('two', `/run/netns/${host.name}`);
    retired.retire();
    expect(() => retired.within(whereWeAre)).toThrow('is not captured any more');
    expect(await runOk(['nsenter', `--net=${retired.path}`, 'readlink', '/proc/self/ns/net'])).toBe(
      `${retired.link}\n`,
    );
  });
});

describe('NetworkNamespace.open()', () => {
  test.each([
    ['what is not there', () => '/run/netns/there-is-none', 'ENOENT'],
    ['another kind of namespace', () => '/proc/self/ns/mnt', 'it is no network namespace'],
    ['a file', () => join(folder, 'file'), 'it is no network namespace'],
    ['a pipe, without waiting for who writes', () => join(folder, 'pipe'), 'it is no network namespace'],
    ['its own', () => '/proc/self/ns/net', "it is the agent's own"],
  ])('refuses %s', async (_what, path, why) => {
    writeFileSync(join(folder, 'file'), '');
    await runOk(['sh', '-c', `test -p ${folder}/pipe || mkfifo ${folder}/pipe`]);
    const refusal = await refusalOf(Promise.try(() => NetworkNamespace.open('x', path())));
    expect(refusal).toMatchObject({ code: 'unavailable', reason: 'network_namespace' });
    expect(refusal.message).toContain(why);
  });
});

describe('a socket that is made in a namespace', () => {
  test('listens there alone, and is found by questions that are asked there', () => {
    const fd = openTcpListener({ address: '::', port: 4711 }, { namespace: opened, mark: 7 });
    try {
      expect(findTcpListeners(4711, { namespace: opened }).map(({ local }) => local.port)).toEqual([4711]);
      expect(findTcpListeners(4711)).toEqual([]);
      // The same port is free here.
      closeDescriptor(openTcpListener({ address: '::', port: 4711 }));
    } finally {
      closeDescriptor(fd);
    }
    expect(findTcpListeners(4711, { namespace: opened })).toEqual([]);
  });

  test('keeps no more than the agent says, whatever root there says of his connections', async () => {
    const all = ['net.ipv4.tcp_rmem', 'net.ipv4.tcp_wmem'];
    const before = await Promise.all(all.map(async (name) => await host.runOk('sysctl', '-n', name)));
    await host.runOk('sysctl', '-qw', ...all.map((name) => `${name}=4096 1073741824 2147483647`));
    const listener = openTcpListener({ address: '127.0.0.1', port: 4713 }, { namespace: opened });
    const dialled = dialMarked({ address: '127.0.0.1', port: 4713, mark: 0, namespace: opened });
    try {
      for (const fd of [listener, dialled])
        for (const name of [SO_SNDBUF, SO_RCVBUF]) {
          const bytes = readSocketOption(fd, { level: SOL_SOCKET, name }, 4)?.readInt32LE(0);
          expect(bytes).toBeLessThanOrEqual(512 * 1024);
        }
    } finally {
      closeDescriptor(listener);
      closeDescriptor(dialled);
      for (const [at, name] of all.entries())
        await host.runOk('sysctl', '-qw', `${name}=${before[at]?.trim()}`);
    }
    // Here it is as the host says.
    const own = openTcpListener({ address: '127.0.0.1', port: 0 });
    const ownBytes = readSocketOption(own, { level: SOL_SOCKET, name: SO_RCVBUF }, 4)?.readInt32LE(0);
    closeDescriptor(own);
    const [, hosts] = readFileSync('/proc/sys/net/ipv4/tcp_rmem', 'utf8').trim().split(/\s+/);
    expect(String(ownBytes)).toBe(hosts ?? '');
  });

  test('connects there', async () => {
    const fd = openTcpListener({ address: '::', port: 4712 }, { namespace: opened });
    const target = { address: '127.0.0.1', port: 4712, mark: 0 };
    try {
      closeDescriptor(dialMarked({ ...target, namespace: opened }));
      const outside = await Bun.connect({
        hostname: '127.0.0.1',
        port: 4712,
        socket: { data: () => undefined },
      }).then(
        () => 'connected',
        () => 'refused',
      );
      expect(outside).toBe('refused');
    } finally {
      closeDescriptor(fd);
    }
  });
});

test('readRulesetGeneration() counts the changes of a namespace apart from those of others', async () => {
  const before = [readRulesetGeneration(), readRulesetGeneration({ namespace: opened })] as const;
  await host.runOk('nft', 'add', 'table', 'inet', 'some');
  expect(readRulesetGeneration({ namespace: opened })).toBeGreaterThan(before[1]);
});

describe('NetworkNamespace.hasOtherUsers', () => {
  test('tells a namespace of another user namespace from one of the agent’s', async () => {
    expect(opened.hasOtherUsers).toBe(false);
    await withOtherUsers((path) => {
      using other = NetworkNamespace.open('other', path);
      expect(other.hasOtherUsers).toBe(true);
    });
  });
});
