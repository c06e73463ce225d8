import type { Benchmark, BenchRun } from '../bench-run.ts';
import { compare } from '../compare.ts';
import type { Contender, Sessions } from '../contenders/contender.ts';
import { LOAD_CORE, LOAD_UID, PAIR_CORE, PEERS, type PicketVariant } from '../lab.ts';
import { wrk } from '../load/wrk.ts';
import type { Measure, Sample, Table } from '../measure.ts';
import { cpuSeconds } from '../process-cost.ts';
import { warmUp } from '../warm-up.ts';

const CONNECTIONS = 50;

/** One short request on each new connection. */
export function newConnections(options: {
  readonly name: string;
  readonly title: string;
  /** Of the peers, which make a TLS connection for each. */
  readonly sessions: Sessions;
  readonly variants: readonly PicketVariant[];
  readonly floors: { readonly rate?: number; readonly cpu?: number };
}): Benchmark {
  const { name, title, sessions, variants, floors } = options;
  const measures: readonly Measure[] = [
    {
      name: 'connections',
      unit: '1/s',
      better: 'more',
      ...(floors.rate === undefined ? {} : { floor: floors.rate }),
    },
    {
      name: 'CPU per connection',
      unit: 'us',
      better: 'less',
      ...(floors.cpu === undefined ? {} : { floor: floors.cpu }),
    },
    { name: 'p50', unit: 'ms', better: 'less' },
    { name: 'p99', unit: 'ms', better: 'less' },
  ];
  const measure = async (run: BenchRun): Promise<Table> => {
    const contenders: Contender[] = [];
    for (const peer of PEERS)
      contenders.push(await run.lab.peer(peer, { mode: 'tcp', sessions, cores: PAIR_CORE }));
    for (const variant of variants) contenders.push(await run.lab.picket(variant, 'tcp', PAIR_CORE));
    run.progress(`${name}, warming up`);
    await warmUp(contenders, 'tcp', { isClosing: true });
    const rows = await compare({
      contenders,
      reference: 'haproxy',
      ours: 'picket',
      measures,
      rounds: run.rounds,
      sample: async (contender) => await sample(contender, run.seconds),
      onRound: (round) => run.progress(`${name}, round ${round} of ${run.rounds}`),
    });
    return {
      name,
      title,
      reference: 'haproxy',
      rows,
      notes: [`${CONNECTIONS} at once, behind some seconds of such load on each`],
    };
  };
  return { name, title, isQuick: variants.includes('pooled'), measure };
}

async function sample({ caller, entry, pids }: Contender, seconds: number): Promise<Sample> {
  const before = cpuSeconds(pids());
  const load = { cores: LOAD_CORE, connections: CONNECTIONS, seconds, isClosing: true };
  const ran = await wrk({ host: caller, url: `http://${entry}/r`, uid: LOAD_UID, ...load });
  return {
    connections: ran.perSecond,
    'CPU per connection': ((cpuSeconds(pids()) - before) / ran.requests) * 1e6,
    p50: ran.p50Ms,
    p99: ran.p99Ms,
  };
}
