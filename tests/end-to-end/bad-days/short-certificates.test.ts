import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { z } from 'zod';
import { eventsOf } from '../../kit/witnesses.ts';
import { python, pythonService, TrafficMesh } from '../traffic/traffic-mesh.ts';

/** Certificates that live for 20 seconds at both ends, under constant load for more than three lives. */

setDefaultTimeout(180_000);

const PROGRAMS = '../../bad-days/programs';
const HTTP_PORT = 8091;
const LINES_PORT = 8092;
const GRPC_PORT = 8093;
const LIFE_SECONDS = 20;
const LOAD_SECONDS = 70;
let traffic: TrafficMesh;

const told = z.object({
  name: z.enum(['single', 'kept', 'long']),
  answered: z.number(),
  failed: z.number(),
  ages: z.array(z.number()),
});

const called = z.object({ answered: z.number(), failed: z.array(z.unknown()) });

beforeAll(async () => {
  const service = (path: string, uid: number, port: number, program: string, ...args: readonly string[]) =>
    pythonService({
      path,
      uid,
      listen: [String(port)],
      program: `${PROGRAMS}/${program}`,
      args: [...args, String(port)],
    });
  traffic = await TrafficMesh.open({
    services: [
      service('/web', 7361, HTTP_PORT, 'held-application.py'),
      service('/lines', 7362, LINES_PORT, 'lines.py', 'serve'),
      service('/orders', 7363, GRPC_PORT, '../../traffic/programs/grpc-service.py'),
    ],
    ttl: `${LIFE_SECONDS}s`,
    isOpen: async (open) =>
      (await steady(open, 1)).every(({ answered }) => answered > 0) &&
      (await calls(open, 1)).failed.length === 0,
  });
}, 120_000);
afterAll(async () => await traffic?.close());

async function steady(open: TrafficMesh, seconds: number): Promise<readonly z.output<typeof told>[]> {
  const args = [open.store.host.ipv4, HTTP_PORT, LINES_PORT, seconds].map(String);
  const command = python(`${PROGRAMS}/steady.py`, ...args);
  const { stdout } = await open.asCaller(command, { withinMs: (seconds + 60) * 1000 });
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => told.parse(JSON.parse(line)));
}

/** Calls of gRPC, four at once on one connection at a time. */
async function calls(open: TrafficMesh, seconds: number): Promise<z.output<typeof called>> {
  const args = [`${open.store.host.ipv4}:${GRPC_PORT}`, 'steady', String(seconds)];
  const { stdout } = await open.asCaller(python('grpc-client.py', ...args), {
    withinMs: (seconds + 60) * 1000,
  });
  return called.parse(JSON.parse(stdout));
}

test('no request is lost, and connections that are kept last as long as a certificate', async () => {
  const [results, grpc] = await Promise.all([steady(traffic, LOAD_SECONDS), calls(traffic, LOAD_SECONDS)]);
  expect(grpc.failed).toEqual([]);
  expect(grpc.answered).toBeGreaterThan(LOAD_SECONDS);
  const find = (name: string): z.output<typeof told> => results.find((each) => each.name === name)!;
  expect(find('single').answered).toBeGreaterThan(LOAD_SECONDS);
  expect(find('single').failed).toBe(0);
  for (const name of ['kept', 'long']) {
    const { answered, failed, ages } = find(name);
    expect(answered).toBeGreaterThan(LOAD_SECONDS);
    // A connection ends with the certificates that it was opened with, and these are renewed at half of their life. The next one is there at once.
    expect(Math.min(...ages)).toBeGreaterThan(LIFE_SECONDS / 4);
    expect(ages.length).toBeGreaterThan(LOAD_SECONDS / LIFE_SECONDS - 1);
    expect(ages.length).toBeLessThan((4 * LOAD_SECONDS) / LIFE_SECONDS);
    // A client of HTTP is told beforehand; anything else is cut.
    expect(failed).toBe(name === 'kept' ? 0 : ages.length);
  }
  for (const { log } of [traffic.desk, traffic.store].map((host) => ({ log: host.log() }))) {
    expect(eventsOf(log, 'renewal_failed')).toEqual([]);
    expect(eventsOf(log, 'mesh_caller_refused')).toEqual([]);
  }
});
