import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { asUser, isListening } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import { TrafficMesh, type Service } from './traffic-mesh.ts';

/** Redis, whose clients speak first, in a protocol that may begin like a request of HTTP and is none. */

setDefaultTimeout(60_000);

const PORT = 6379;
/** Registered as TCP: what its clients say is not looked at. */
const TCP_PORT = 6380;
const MANY = 20_000;
let traffic: TrafficMesh;

function redis(options: {
  readonly path: string;
  readonly uid: number;
  readonly port: number;
  readonly listen: string;
}): Service {
  const { path, uid, port, listen } = options;
  const start = async (host: TestHost, folder: string): Promise<Child> => {
    const settings = ['--port', String(port), '--bind', '*', '-::*', '--protected-mode', 'no', '--save', ''];
    const child = new Child({
      command: host.in(...asUser(uid, '/usr/bin/redis-server', ...settings, '--appendonly', 'no')),
      logFile: join(folder, `redis-${port}.log`),
      cwd: '/',
    });
    await child.ready('Redis listens', async () => await isListening(host, port));
    return child;
  };
  return { path, selectors: [`unix:uid:${uid}`], listen: [listen], start };
}

const client = (mesh: TrafficMesh, ...command: readonly string[]): readonly string[] => [
  'redis-cli',
  '-h',
  mesh.store.host.ipv4,
  ...command,
];

beforeAll(async () => {
  traffic = await TrafficMesh.open({
    services: [
      redis({ path: '/redis', uid: 7252, port: PORT, listen: String(PORT) }),
      redis({ path: '/redis-tcp', uid: 7253, port: TCP_PORT, listen: `${TCP_PORT}/tcp` }),
    ],
    isOpen: async (mesh) => {
      const asked = [PORT, TCP_PORT].map(
        async (port) => (await mesh.asCaller(client(mesh, '-p', String(port), 'ping'))).stdout,
      );
      return (await Promise.all(asked)).every((answer) => answer === 'PONG\n');
    },
  });
}, 120_000);
afterAll(async () => await traffic?.close());

test('commands are answered, also those that come by the thousand without waiting', async () => {
  const script = `seq 1 ${MANY} | sed 's/.*/SET key-& value-&/' | redis-cli -h ${traffic.store.host.ipv6} --pipe`;
  const piped = await traffic.asCaller(['sh', '-c', script]);
  expect(piped.stdout).toContain(`errors: 0, replies: ${MANY}`);
  const read = await traffic.asCaller(client(traffic, 'mget', 'key-1', `key-${MANY}`, 'key-0'));
  expect(read.stdout).toBe(`value-1\nvalue-${MANY}\n\n`);
});

test('an inline command that reads like a request of HTTP is one of Redis where the listener is TCP', async () => {
  await traffic.asCaller(client(traffic, '-p', String(TCP_PORT), 'set', '/path', 'inline'));
  const script = `printf 'GET /path\\r\\nQUIT\\r\\n' | nc -N ${traffic.store.host.ipv4} ${TCP_PORT}`;
  expect((await traffic.asCaller(['sh', '-c', script])).stdout).toBe('$6\r\ninline\r\n+OK\r\n');
});

test('a subscriber that says nothing hears what is published', async () => {
  const subscriber = traffic.startCaller('subscriber', client(traffic, 'subscribe', 'news'));
  await waitUntil('it is subscribed', () => subscriber.log().includes('subscribe\nnews\n1\n'));
  expect((await traffic.asCaller(client(traffic, 'publish', 'news', 'hello'))).stdout).toBe('1\n');
  await waitUntil('it hears', () => subscriber.log().includes('message\nnews\nhello\n'));
});
