import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decisionsBelow } from '../../kit/access-records.ts';
import { Child } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { asUser, isListening } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import { TrafficMesh, type Service } from './traffic-mesh.ts';

/** WebSockets over HTTP/2 (RFC 8441), with Node.js at both ends. */

setDefaultTimeout(60_000);

const PORT = 7410;
const NODE = '/usr/bin/node';
let traffic: TrafficMesh;

/** Makes one of `programs/` a program for Node.js that the users of the test can read; the command that runs it. */
async function nodeProgram(folder: string, name: string): Promise<readonly string[]> {
  const source = join(import.meta.dirname, `programs/${name}.ts`);
  const built = await Bun.build({ entrypoints: [source], target: 'node' });
  const program = join(folder, `${name}.mjs`);
  writeFileSync(program, (await built.outputs[0]?.text()) ?? '');
  chmodSync(program, 0o644);
  return [NODE, program];
}

const tunnels: Service = {
  path: '/tunnels',
  selectors: ['unix:uid:7251'],
  listen: [String(PORT)],
  async start(host: TestHost, folder: string): Promise<Child> {
    const server = await nodeProgram(folder, 'extended-connect-server');
    const child = new Child({
      command: host.in(...asUser(7251, ...server, String(PORT))),
      logFile: join(folder, 'tunnels.log'),
      cwd: '/',
    });
    await child.ready('Node.js listens', async () => await isListening(host, PORT));
    return child;
  },
};

async function open(mesh: TrafficMesh, ...paths: readonly string[]): Promise<unknown> {
  const url = `http://${mesh.store.host.ipv4}:${PORT}`;
  const client = await nodeProgram(mesh.folder, 'extended-connect-client');
  const { stdout } = await mesh.asCaller([...client, url, ...paths]);
  return stdout === '' ? undefined : JSON.parse(stdout);
}

beforeAll(async () => {
  traffic = await TrafficMesh.open({
    services: [tunnels],
    isOpen: async (mesh) => (await open(mesh)) !== undefined,
  });
}, 120_000);
afterAll(async () => await traffic?.close());

test('a tunnel is opened and decided like a request, carries both ways, and a refused one disturbs no other', async () => {
  expect(await open(traffic, '/first', '/refused', '/second')).toEqual([
    { path: '/first', status: 200, caller: 'spiffe://example.org/caller', isWhole: true },
    { path: '/refused', status: 403, isWhole: false },
    { path: '/second', status: 200, caller: 'spiffe://example.org/caller', isWhole: true },
  ]);
  const recorded = await waitUntil('all is recorded', async () => {
    const found = await decisionsBelow(traffic.mesh.control, 'spiffe://example.org/tunnels', '/');
    return found.length >= 3 && found;
  });
  expect(recorded.map(({ decision, method, path }) => `${decision} ${method} ${path}`).toSorted()).toEqual([
    'allow CONNECT /first',
    'allow CONNECT /second',
    'deny CONNECT /refused',
  ]);
});
