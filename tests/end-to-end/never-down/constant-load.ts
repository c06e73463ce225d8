import { expect } from 'bun:test';
import { join } from 'node:path';
import { z } from 'zod';
import type { Child } from '../../kit/child.ts';
import { accountOf, startPostgres } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import {
  python,
  pythonService,
  TrafficMesh,
  type Service,
  type TrafficMeshOptions,
} from '../traffic/traffic-mesh.ts';

const PROGRAMS = '../../bad-days/programs';
export const HTTP_PORT = 8101;
const LINES_PORT = 8102;
const GRPC_PORT = 8103;
const POSTGRES_PORT = 5432;
const PSQL = '/usr/lib/postgresql/15/bin/psql';
/** Longer than any test. */
const FOREVER_SECONDS = 600;

const told = z.object({
  name: z.enum(['single', 'kept', 'long']),
  answered: z.number(),
  failed: z.number(),
  ages: z.array(z.number()),
});
const called = z.object({ answered: z.number(), failed: z.array(z.unknown()) });

/** What a load came to. */
export interface LoadResult {
  /** HTTP/1.1: a connection for each request, and connections that are kept until an answer says that it is the last. */
  readonly single: z.output<typeof told>;
  readonly kept: z.output<typeof told>;
  /** Lines on one TCP connection. */
  readonly long: z.output<typeof told>;
  /** HTTP/2 by gRPC. */
  readonly grpc: z.output<typeof called>;
  /** Queries on one connection of PostgreSQL, and what psql complained of. */
  readonly psql: { readonly answered: number; readonly complaints: string };
}

/** A mesh with services of every kind: HTTP/1.1, gRPC, lines of text, PostgreSQL. */
export async function openLoadedMesh(
  options: Pick<TrafficMeshOptions, 'settings'> = {},
): Promise<TrafficMesh> {
  const service = (
    path: string,
    uid: number,
    port: number,
    program: string,
    ...args: readonly string[]
  ): Service =>
    pythonService({
      path,
      uid,
      listen: [String(port)],
      program: `${PROGRAMS}/${program}`,
      args: [...args, String(port)],
    });
  const database: Service = {
    path: '/database',
    selectors: [`unix:uid:${accountOf('postgres').uid}`],
    listen: [String(POSTGRES_PORT)],
    start: async (host, folder) =>
      await startPostgres(host, { folder: join(folder, 'postgres'), sql: 'create table t (n int);' }),
  };
  return await TrafficMesh.open({
    ...options,
    services: [
      service('/web', 7371, HTTP_PORT, 'held-application.py'),
      service('/lines', 7372, LINES_PORT, 'lines.py', 'serve'),
      service('/orders', 7373, GRPC_PORT, '../../traffic/programs/grpc-service.py'),
      database,
    ],
    isOpen: async (open) => await isEverythingReached(open),
  });
}

/** A load of every kind that goes on until it is ended. */
export class ConstantLoad {
  readonly #steady: Child;
  readonly #grpc: Child;
  readonly #psql: Child;

  private constructor(traffic: TrafficMesh) {
    const { ipv4 } = traffic.store.host;
    const name = `load-${crypto.randomUUID()}`;
    this.#steady = traffic.startCaller(`${name}-steady`, steady(traffic, FOREVER_SECONDS));
    const grpc = python('grpc-client.py', `${ipv4}:${GRPC_PORT}`, 'steady', String(FOREVER_SECONDS));
    this.#grpc = traffic.startCaller(`${name}-grpc`, grpc);
    const watch = `exec ${PSQL} -At "$1" <<< "select 'answered' \\watch 0.05"`;
    this.#psql = traffic.startCaller(`${name}-psql`, ['bash', '-c', watch, 'bash', connectionTo(ipv4)]);
  }

  /** Starts it, and waits until all of it is under way. */
  static async start(traffic: TrafficMesh): Promise<ConstantLoad> {
    const load = new ConstantLoad(traffic);
    const seen = (): number => countSeen(traffic, '/steady/');
    const before = seen();
    await waitUntil('the load is under way', () => load.#countQueries() > 5 && seen() > before + 20);
    await waitUntil('gRPC is under way', () => traffic.service('/orders').log().includes('get steady'));
    return load;
  }

  /** Does `work` under the load, and lets the load go on for a while after it. */
  static async during(traffic: TrafficMesh, work: () => Promise<void>): Promise<LoadResult> {
    const load = await ConstantLoad.start(traffic);
    try {
      await work();
      const before = countSeen(traffic, '/steady/');
      await waitUntil('it goes on', () => countSeen(traffic, '/steady/') > before + 50);
    } catch (error) {
      await load.end().catch(() => undefined);
      throw error;
    }
    return await load.end();
  }

  async end(): Promise<LoadResult> {
    for (const child of [this.#steady, this.#grpc, this.#psql]) await child.stop('SIGTERM', 30_000);
    const results = linesOf(this.#steady).map((line) => told.parse(JSON.parse(line)));
    const find = (name: string): z.output<typeof told> => {
      const result = results.find((each) => each.name === name);
      if (result === undefined) throw new Error(`The load says nothing of ${name}: ${this.#steady.log()}`);
      return result;
    };
    const grpc = called.parse(JSON.parse(linesOf(this.#grpc).at(-1) ?? ''));
    const complaints = linesOf(this.#psql).filter((line) => line !== '' && !/answered|every \d/.test(line));
    const psql = { answered: this.#countQueries(), complaints: complaints.join('\n') };
    return { single: find('single'), kept: find('kept'), long: find('long'), grpc, psql };
  }

  #countQueries(): number {
    return linesOf(this.#psql).filter((line) => line === 'answered').length;
  }
}

/** Not one request of the load failed, of any kind. */
export function expectNothingLost({ single, kept, long, grpc, psql }: LoadResult): void {
  expect([single, kept, long].map(({ name, failed }) => ({ name, failed }))).toEqual([
    { name: 'single', failed: 0 },
    { name: 'kept', failed: 0 },
    { name: 'long', failed: 0 },
  ]);
  expect(grpc.failed).toEqual([]);
  expect(psql.complaints).toBe('');
  expect(
    Math.min(single.answered, kept.answered, long.answered, grpc.answered, psql.answered),
  ).toBeGreaterThan(5);
}

/** The paths that begin so, as the HTTP application has seen them: each as often as it has. */
export function pathsSeen(traffic: TrafficMesh, path: string): readonly string[] {
  return traffic
    .service('/web')
    .log()
    .split('\n')
    .filter((line) => line.startsWith(`seen ${path}`))
    .map((line) => line.slice('seen '.length));
}

/** How often the HTTP application has seen a path that begins so. */
export function countSeen(traffic: TrafficMesh, path: string): number {
  return pathsSeen(traffic, path).length;
}

function linesOf(child: Child): readonly string[] {
  return child.log().trimEnd().split('\n');
}

function connectionTo(address: string): string {
  return `host=${address} user=postgres dbname=postgres connect_timeout=10`;
}

function steady(traffic: TrafficMesh, seconds: number): readonly string[] {
  const args = [traffic.store.host.ipv4, HTTP_PORT, LINES_PORT, seconds].map(String);
  return python(`${PROGRAMS}/steady.py`, ...args);
}

async function isEverythingReached(open: TrafficMesh): Promise<boolean> {
  const { ipv4 } = open.store.host;
  const once = await open.asCaller(steady(open, 1));
  const results = once.stdout.trimEnd().split('\n');
  const grpc = await open.asCaller(python('grpc-client.py', `${ipv4}:${GRPC_PORT}`, 'steady', '1'));
  const query = await open.asCaller([PSQL, '-At', '-c', 'select 1', connectionTo(ipv4)]);
  return (
    results.every((line) => told.parse(JSON.parse(line)).failed === 0) &&
    called.parse(JSON.parse(grpc.stdout)).failed.length === 0 &&
    query.exitCode === 0
  );
}
