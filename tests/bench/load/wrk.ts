import { run } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { asUser } from '../../kit/programs.ts';

export interface WrkRun {
  readonly requests: number;
  readonly perSecond: number;
  /** Milliseconds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const UNIT_MS: Readonly<Record<string, number>> = { us: 1e-3, ms: 1, s: 1e3, m: 6e4 };

/** `connections` that ask one request after another for some seconds; any error at all fails the run. */
export async function wrk(options: {
  readonly host: TestHost;
  readonly url: string;
  readonly uid: number;
  /** To which cores the load is kept. */
  readonly cores: string;
  readonly connections: number;
  readonly seconds: number;
  /** A new connection for each request. */
  readonly isClosing?: boolean;
}): Promise<WrkRun> {
  const { host, url, uid, cores, connections, seconds, isClosing = false } = options;
  const headers = isClosing ? ['-H', 'Connection: close'] : [];
  const load = ['wrk', '-t1', '-c', String(connections), '-d', `${seconds}s`, '--latency', ...headers, url];
  const result = await run(host.in(...asUser(uid, 'taskset', '-c', cores, ...load)), {
    cwd: '/',
    withinMs: 120_000,
  });
  return parseWrk(result.stdout, result.stderr);
}

/** Reads what wrk prints. Throws with its words where it met an error or printed something else. */
export function parseWrk(text: string, errors: string): WrkRun {
  const failure = /Socket errors.*|Non-2xx.*/.exec(text)?.[0];
  const requests = Number(/(\d+) requests in/.exec(text)?.[1]);
  if (failure !== undefined || !(requests > 0))
    throw new Error(`wrk: ${failure ?? 'no request was answered'}\n${text}${errors}`);
  return {
    requests,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
    p50Ms: readMs(/\n +50%\s+(\S+)/.exec(text)?.[1]),
    p99Ms: readMs(/\n +99%\s+(\S+)/.exec(text)?.[1]),
  };
}

function readMs(text = ''): number {
  const [, number, unit = ''] = /^([\d.]+)(us|ms|s|m)$/.exec(text) ?? [];
  return Number(number) * (UNIT_MS[unit] ?? Number.NaN);
}
