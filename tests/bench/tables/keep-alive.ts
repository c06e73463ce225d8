import type { Benchmark, BenchRun } from '../bench-run.ts';
import { compare } from '../compare.ts';
import type { Contender, PairMode } from '../contenders/contender.ts';
import type { PAIR_CORE } from '../lab.ts';
import { ALL_CORES, LOAD_CORE, LOAD_UID, PEERS } from '../lab.ts';
import { wrk } from '../load/wrk.ts';
import type { Measure, Sample, Table } from '../measure.ts';
import { cpuSeconds } from '../process-cost.ts';

const CONNECTIONS = 50;

/** Connections that stay open and ask one request after another. */
export function keepAlive(options: {
  readonly name: string;
  readonly title: string;
  readonly mode: PairMode;
  /** Of the pair: one or both. */
  readonly cores: typeof PAIR_CORE | typeof ALL_CORES;
  readonly floor: number;
}): Benchmark {
  const { name, title, mode, cores, floor } = options;
  const measures: readonly Measure[] = [
    { name: 'requests', unit: '1/s', better: 'more', floor },
    { name: 'CPU per request', unit: 'us', better: 'less' },
    { name: 'p50', unit: 'ms', better: 'less' },
    { name: 'p99', unit: 'ms', better: 'less' },
  ];
  const measure = async (run: BenchRun): Promise<Table> => {
    const contenders = await startAll(run, { mode, cores });
    const loadCores = cores === ALL_CORES ? ALL_CORES : LOAD_CORE;
    const rows = await compare({
      contenders,
      reference: 'haproxy',
      ours: 'picket',
      measures,
      rounds: run.rounds,
      sample: async (contender) => await sample(contender, { cores: loadCores, seconds: run.seconds }),
      onRound: (round) => run.progress(`${name}, round ${round} of ${run.rounds}`),
    });
    return { name, title, reference: 'haproxy', rows, notes: [`${CONNECTIONS} connections`] };
  };
  return { name, title, isQuick: true, measure };
}

async function startAll(
  { lab }: BenchRun,
  { mode, cores }: { readonly mode: PairMode; readonly cores: string },
): Promise<readonly Contender[]> {
  const peers: Contender[] = [];
  for (const peer of PEERS) peers.push(await lab.peer(peer, { mode, sessions: 'resumed', cores }));
  return [...peers, await lab.picket('pooled', mode, cores), await lab.picket('captured', mode, cores)];
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
