import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { waitUntil } from '../../kit/wait.ts';
import { python, pythonService, TrafficMesh } from './traffic-mesh.ts';

/** Connections of which one direction has ended and the other has not: many protocols stand on that, and a proxy that ends both loses data in silence. */

setDefaultTimeout(60_000);

const PORTS = {
  client: { auto: '7001', tcp: '7002' },
  server: { auto: '7011', tcp: '7012' },
} as const;
const BYE = createHash('sha256').update('bye').digest('hex');
let traffic: TrafficMesh;

beforeAll(async () => {
  const { client, server } = PORTS;
  const ends = pythonService({
    path: '/ends',
    uid: 7201,
    listen: [client.auto, `${client.tcp}/tcp`, server.auto, `${server.tcp}/tcp`],
    program: 'half-closed.py',
    args: [
      'serve',
      ...Object.values(client).map((port) => `client:${port}`),
      ...Object.values(server).map((port) => `server:${port}`),
    ],
  });
  traffic = await TrafficMesh.open({
    services: [ends],
    isOpen: async (open) => {
      const { stdout } = await open.asCaller(netcat(open.store.host.ipv4, server.auto));
      return stdout === 'bye';
    },
  });
}, 120_000);
afterAll(async () => await traffic?.close());

const netcat = (host: string, port: string): readonly string[] => ['nc', '-d', '-w', '2', host, port];

async function call(how: 'client' | 'server', host: string, port: string): Promise<readonly string[]> {
  const { stdout, stderr } = await traffic.asCaller(python('half-closed.py', 'call', how, host, port));
  expect(stderr).toBe('');
  return stdout.trim().split(' ');
}

const WAYS = [
  ['a protocol that is found out', 'auto', 'ipv4'],
  ['a protocol that is found out', 'auto', 'ipv6'],
  ['TCP', 'tcp', 'ipv4'],
  ['TCP', 'tcp', 'ipv6'],
] as const;

describe('a connection whose client ends first', () => {
  test.concurrent.each(WAYS)(
    'still brings all of the answer, by %s (%s) over %s',
    async (_name, protocol, family) => {
      const [sent, received] = await call('client', traffic.store.host[family], PORTS.client[protocol]);
      expect(received).toBe(sent ?? 'nothing');
    },
  );
});

describe('a connection whose server ends first', () => {
  test.concurrent.each(WAYS)(
    'still takes all that the client sends, by %s (%s) over %s',
    async (_name, protocol, family) => {
      const [sent = 'nothing', received] = await call(
        'server',
        traffic.store.host[family],
        PORTS.server[protocol],
      );
      expect(received).toBe(BYE);
      await waitUntil('the server has all of it', () => traffic.service('/ends').log().includes(sent));
    },
  );
});
