import type { Benchmark, BenchRun } from '../bench-run.ts';
import { compare } from '../compare.ts';
import type { Contender, PairMode } from '../contenders/contender.ts';
import type { PAIR_CORE } from '../lab.ts';
import { ALL_CORES, LOAD_CORE, LOAD_UID, PEERS } from '../lab.ts';
import { wrk } from '../load/wrk.ts';
import type { Measure, Sample, Table } from '../measure.ts';
import { cpuSeconds } from '../process-cost.ts';
import { warmUp } from '../warm-up.ts';

const CONNECTIONS = 50;

/** Connections that stay open and ask one request after another. */
export function keepAlive(options: {
  readonly name: string;
  readonly title: string;
  readonly mode: PairMode;
  /** Of the pair: one or both. */
  readonly cores: typeof PAIR_CORE | typeof ALL_CORES;
  readonly floors: { readonly rate: number; readonly cpu?: number };
}): Benchmark {
  const { name, title, mode, cores, floors } = options;
  const measures: readonly Measure[] = [
    { name: 'requests', unit: '1/s', better: 'more', floor: floors.rate },
    {
      name: 'CPU per request',
      unit: 'us',
      better: 'less',
      ...(floors.cpu === undefined ? {} : { floor: floors.cpu }),
    },
    { name: 'p50', unit: 'ms', better: 'less' },
    { name: 'p99', unit: 'ms', better: 'less' },
  ];
  const measure = async (run: BenchRun): Promise<Table> => {
    const contenders = await startAll(run, { mode, cores });
    const loadCores = cores === ALL_CORES ? ALL_CORES : LOAD_CORE;
    await warmUp(contenders, mode);
    const rows = await compare({
      contenders,
      reference: 'haproxy',
      ours: 'picket',
      measures,
      rounds: run.rounds,
      sample: async (contender) => await sample(contender, { cores: loadCores, seconds: run.seconds }),
      onRound: (round) => run.progress(`${name}, round ${round} of ${run.rounds}`),
    });
    const notes = [`${CONNECTIONS} connections`];
    // One process and one peer are in one worker on either side: what two workers cost, not what they gain with many.
    if (cores === ALL_CORES)
      notes.push('all of one program and one peer: with two workers, one of them on each side has all');
    return { name, title, reference: 'haproxy', rows, notes };
  };
  return { name, title, isQuick: true, measure };
}

async function startAll(
  { lab }: BenchRun,
  { mode, cores }: { readonly mode: PairMode; readonly cores: string },
): Promise<readonly Contender[]> {
  const peers: Contender[] = [];
  for (const peer of PEERS) peers.push(await lab.peer(peer, { mode, sessions: 'resumed', cores }));
  const variants = ['pooled', 'captured', ...(cores === ALL_CORES ? ['workers' as const] : [])] as const;
  const pairs: Contender[] = [];
  for (const variant of variants) pairs.push(await lab.picket(variant, mode, cores));
  return [...peers, ...pairs];
}

async function sample(
  contender: Contender,
  load: { readonly cores: string; readonly seconds: number },
): Promise<Sample> {
  const { caller, entry, pids } = contender;
  const before = cpuSeconds(pids());
  const ran = await wrk({
    host: caller,
    url: `http://${entry}/r`,
    uid: LOAD_UID,
    connections: CONNECTIONS,
    ...load,
  });
  return {
    requests: ran.perSecond,
    'CPU per request': ((cpuSeconds(pids()) - before) / ran.requests) * 1e6,
    p50: ran.p50Ms,
    p99: ran.p99Ms,
  };
}
