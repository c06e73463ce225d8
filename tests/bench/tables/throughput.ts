import type { Benchmark, BenchRun } from '../bench-run.ts';
import { compare } from '../compare.ts';
import type { Contender } from '../contenders/contender.ts';
import { LOAD_CORE, LOAD_UID, PAIR_CORE, PEERS } from '../lab.ts';
import type { Measure, Sample, Table } from '../measure.ts';
import { cpuSeconds } from '../process-cost.ts';
import { runOk } from '../../kit/child.ts';
import { asUser } from '../../kit/programs.ts';

const name = 'throughput';
const title = '1 GiB through a TCP pair, one core';
const GIB_IN_MB = 1024 ** 3 / 1e6;

const measures: readonly Measure[] = [
  { name: 'throughput', unit: 'MB/s', better: 'more', floor: 1.15 },
  { name: 'CPU', unit: 's', better: 'less', floor: 0.95 },
];

/** One download of 1 GiB at a time. */
export const throughput: Benchmark = { name, title, isQuick: false, measure };

async function measure(run: BenchRun): Promise<Table> {
  const contenders: Contender[] = [];
  for (const peer of PEERS)
    contenders.push(await run.lab.peer(peer, { mode: 'tcp', sessions: 'resumed', cores: PAIR_CORE }));
  for (const variant of ['pooled', 'captured'] as const)
    contenders.push(await run.lab.picket(variant, 'tcp', PAIR_CORE));
  const rows = await compare({
    contenders,
    reference: 'haproxy',
    ours: 'picket',
    measures,
    rounds: run.rounds,
    sample,
    onRound: (round) => run.progress(`${name}, round ${round} of ${run.rounds}`),
  });
  return { name, title, reference: 'haproxy', rows };
}

async function sample({ caller, entry, pids }: Contender): Promise<Sample> {
  const before = cpuSeconds(pids());
  const curl = ['curl', '-sSf', '-o', '/dev/null', '-w', '%{time_total}', `http://${entry}/gib`];
  const text = await runOk(caller.in(...asUser(LOAD_UID, 'taskset', '-c', LOAD_CORE, ...curl)), {
    cwd: '/',
    withinMs: 120_000,
  });
  return { throughput: GIB_IN_MB / Number(text), CPU: cpuSeconds(pids()) - before };
}
