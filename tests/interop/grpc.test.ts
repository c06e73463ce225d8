import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child } from '../kit/child.ts';
import { asUser, isListening } from '../kit/programs.ts';
import { TrafficMesh, type Service } from '../end-to-end/traffic/traffic-mesh.ts';
import { placeTool } from './place-tool.ts';

/** The interoperability suite of gRPC, client and server of grpc-go, through a pair of agents. */

setDefaultTimeout(120_000);

const PORT = 7421;
const USER = 7252;
const CASES = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'custom_metadata',
  'status_code_and_message',
  'special_status_message',
  'unimplemented_method',
  'unimplemented_service',
  'timeout_on_sleeping_server',
  'cancel_after_begin',
  'cancel_after_first_response',
];

let traffic: TrafficMesh;
let folder: string;
let client: string;

const server: Service = {
  path: '/interop',
  selectors: [`unix:uid:${USER}`],
  listen: [`${PORT}/http`],
  async start(host, into) {
    const command = asUser(
      USER,
      placeTool('grpc-interop-server', folder),
      `--port=${PORT}`,
      '--use_tls=false',
    );
    const child = new Child({
      command: host.in(...command),
      logFile: join(into, 'interop.log'),
      cwd: '/',
    });
    await child.ready('the server listens', async () => await isListening(host, PORT));
    return child;
  },
};

async function runCase(open: TrafficMesh, name: string): Promise<string> {
  const target = [`--server_host=${open.store.host.ipv4}`, `--server_port=${PORT}`, '--use_tls=false'];
  const { exitCode, stdout, stderr } = await open.asCaller([client, ...target, `--test_case=${name}`], {
    withinMs: 100_000,
  });
  return exitCode === 0 ? 'passed' : `${exitCode}: ${stdout}${stderr}`.slice(-2000);
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-grpc-'));
  chmodSync(folder, 0o755);
  client = placeTool('grpc-interop-client', folder);
  traffic = await TrafficMesh.open({
    services: [server],
    isOpen: async (open) => (await runCase(open, 'empty_unary')) === 'passed',
  });
}, 180_000);
afterAll(async () => {
  await traffic?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('gRPC interop through the pair', () => {
  test.each(CASES)('%s', async (name) => {
    expect(await runCase(traffic, name)).toBe('passed');
  });
});
