import type { Benchmark, BenchRun } from '../bench-run.ts';
import { compare } from '../compare.ts';
import type { Contender } from '../contenders/contender.ts';
import { LOAD_CORE, LOAD_UID, PAIR_CORE, PEERS } from '../lab.ts';
import { latencyAtRate } from '../load/h2load.ts';
import type { Measure, Sample, Table } from '../measure.ts';
import { warmUp } from '../warm-up.ts';

const name = 'latency';
const title = 'Latency that the pair adds at 1,000 requests/s, one core';
const RATE = 1000;

const measures: readonly Measure[] = [
  { name: 'added p50', unit: 'us', better: 'less', floor: 1.05 },
  { name: 'added p99', unit: 'us', better: 'less', floor: 1.05 },
];

/** Beside what the same requests take without a pair, in the same round, after some seconds of full load on each. */
export const latency: Benchmark = { name, title, isQuick: false, measure };

async function measure(run: BenchRun): Promise<Table> {
  const direct = await run.lab.direct();
  const contenders: Contender[] = [];
  for (const peer of PEERS)
    contenders.push(await run.lab.peer(peer, { mode: 'tcp', sessions: 'resumed', cores: PAIR_CORE }));
  for (const variant of ['pooled', 'captured'] as const)
    contenders.push(await run.lab.picket(variant, 'tcp', PAIR_CORE));
  await warmUp(contenders, 'tcp');
  const take = async ({ caller, entry }: Contender) =>
    await latencyAtRate({
      host: caller,
      url: `http://${entry}/r`,
      uid: LOAD_UID,
      cores: LOAD_CORE,
      rate: RATE,
      seconds: run.seconds,
    });
  const rows = await compare({
    contenders,
    reference: 'haproxy',
    ours: 'picket',
    measures,
    rounds: run.rounds,
    sample: async (contender): Promise<Sample> => {
      const base = await take(direct);
      const { p50Us, p99Us } = await take(contender);
      return { 'added p50': p50Us - base.p50Us, 'added p99': p99Us - base.p99Us };
    },
    onRound: (round) => run.progress(`${name}, round ${round} of ${run.rounds}`),
  });
  return { name, title, reference: 'haproxy', rows };
}
