import type { Child } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { processTree } from '../process-cost.ts';

/** A pair of proxies: plaintext in on the caller's host, TLS 1.3 with both certificates between the hosts, plaintext out to the application. */
export interface Contender {
  readonly name: string;
  /** Where load is made. */
  readonly caller: TestHost;
  /** HOST:PORT at which the pair takes connections there. */
  readonly entry: string;
  /** The processes of both sides. */
  readonly pids: () => readonly number[];
}

/** A pair of a peer, which belongs to whoever started it. */
export interface PeerContender extends Contender {
  readonly stop: () => Promise<void>;
}

/** What both sides of a pair do with the bytes. */
export type PairMode = 'tcp' | 'http' | 'http2';

/** What a new connection costs in TLS. */
export type Sessions = 'resumed' | 'full';

/** Both sides of a peer's pair, started. */
export function pairOf(options: {
  readonly name: string;
  readonly caller: TestHost;
  readonly entry: string;
  readonly processes: readonly Child[];
}): PeerContender {
  const { name, caller, entry, processes } = options;
  return {
    name,
    caller,
    entry,
    pids: () => processes.flatMap(({ pid }) => processTree(pid)),
    stop: async () => {
      await Promise.all(processes.map(async (each) => await each.stop('SIGTERM', 2000)));
    },
  };
}

/** Keeps processes and all their threads to some cores, such as `1` or `0,1`. */
export async function pinTo(cores: string, pids: readonly number[]): Promise<void> {
  for (const pid of pids) {
    const child = Bun.spawn(['taskset', '-acp', cores, String(pid)], { stdout: 'ignore', stderr: 'pipe' });
    if ((await child.exited) !== 0) throw new Error(await new Response(child.stderr).text());
  }
}
