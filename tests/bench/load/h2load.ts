import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, runOk } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { asUser } from '../../kit/programs.ts';
import { quantile } from '../measure.ts';

const CONNECTIONS = 10;
/** Of h2load's log, separated by tabs: start, status, microseconds. */
const STATUS = 1;
const TOOK_US = 2;

/** Latency of HTTP/1.1 requests sent at a fixed rate, whatever the answers take, over ten connections; the first second does not count. */
export async function latencyAtRate(options: {
  readonly host: TestHost;
  readonly url: string;
  readonly uid: number;
  readonly cores: string;
  /** Requests per second. */
  readonly rate: number;
  readonly seconds: number;
}): Promise<{ readonly p50Us: number; readonly p99Us: number }> {
  const { host, url, uid, cores, rate, seconds } = options;
  const folder = mkdtempSync(join(tmpdir(), 'picket-latency-'));
  try {
    chmodSync(folder, 0o777);
    const log = join(folder, 'log');
    const perClient = String(rate / CONNECTIONS);
    const load = ['h2load', '--h1', '-c', String(CONNECTIONS), '--rps', perClient, '-D', String(seconds)];
    const command = asUser(
      uid,
      'taskset',
      '-c',
      cores,
      ...load,
      '--warm-up-time=1',
      `--log-file=${log}`,
      url,
    );
    await runOk(host.in(...command), { cwd: '/', withinMs: 120_000 });
    return readLog(readFileSync(log, 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function readLog(text: string): { readonly p50Us: number; readonly p99Us: number } {
  const lines = text
    .trim()
    .split('\n')
    .map((line) => line.split('\t'));
  const failed = lines.filter((fields) => fields[STATUS] !== '200').length;
  if (failed > 0 || lines.length < 2) throw new Error(`h2load: ${failed} of ${lines.length} requests failed`);
  const tookUs = lines.map((fields) => Number(fields[TOOK_US]));
  return { p50Us: quantile(tookUs, 0.5), p99Us: quantile(tookUs, 0.99) };
}

export interface H2loadRun {
  readonly requests: number;
  readonly perSecond: number;
}

/** `connections` of HTTP/2 with so many `streams` at once on each, for some seconds; any error at all fails the run. */
export async function h2load(options: {
  readonly host: TestHost;
  readonly url: string;
  readonly uid: number;
  readonly cores: string;
  readonly connections: number;
  readonly streams: number;
  readonly seconds: number;
}): Promise<H2loadRun> {
  const { host, url, uid, cores, connections, streams, seconds } = options;
  const load = ['h2load', '-c', String(connections), '-m', String(streams), '-D', String(seconds), url];
  const command = host.in(...asUser(uid, 'taskset', '-c', cores, ...load));
  const { stdout, stderr } = await run(command, { cwd: '/', withinMs: 120_000 });
  return parseH2load(stdout + stderr);
}

/** Reads what h2load prints. Throws with its words where a request failed or it printed something else. */
export function parseH2load(text: string): H2loadRun {
  const [, done, failed] = /(\d+) succeeded, (\d+) failed/.exec(text) ?? [];
  const perSecond = Number(/finished in [^,]+, ([\d.]+) req\/s/.exec(text)?.[1]);
  if (!(Number(done) > 0) || failed !== '0' || !(perSecond > 0)) throw new Error(`h2load failed:\n${text}`);
  return { requests: Number(done), perSecond };
}
