import type { Benchmark, BenchRun } from '../bench-run.ts';
import { compare } from '../compare.ts';
import type { Contender } from '../contenders/contender.ts';
import { LOAD_CORE, LOAD_UID, PAIR_CORE, type PeerName } from '../lab.ts';
import { h2load } from '../load/h2load.ts';
import type { Measure, Sample, Table } from '../measure.ts';
import { cpuSeconds } from '../process-cost.ts';
import { warmUp } from '../warm-up.ts';

/** nginx speaks HTTP/2 to clients alone, and on TLS only behind its own ALPN. */
const PEERS: readonly PeerName[] = ['haproxy', 'envoy'];

/** Connections, streams at once on each, and what CPU per request may be of haproxy's. */
const SHAPES = [
  { connections: 10, streams: 1, floor: 1 / 1.2 },
  { connections: 10, streams: 10, floor: 1 / 1.05 },
  { connections: 10, streams: 100, floor: 1 / 1.05 },
] as const;
type Shape = (typeof SHAPES)[number];

const nameOf = ({ connections, streams }: Shape): string => `${connections}x${streams}`;

const MEASURES: readonly Measure[] = SHAPES.flatMap((shape): Measure[] => [
  { name: `requests, ${nameOf(shape)}`, unit: '1/s', better: 'more' },
  { name: `CPU per request, ${nameOf(shape)}`, unit: 'us', better: 'less', floor: shape.floor },
]);

/** HTTP/2 with a decision for each stream: short requests on connections that stay open. */
export const http2: Benchmark = {
  name: 'http2',
  title: 'HTTP/2 pair with a decision for each stream, one core',
  isQuick: false,
  async measure(run: BenchRun): Promise<Table> {
    const { lab, rounds, seconds, progress } = run;
    const contenders: Contender[] = [];
    for (const peer of PEERS)
      contenders.push(await lab.peer(peer, { mode: 'http2', sessions: 'resumed', cores: PAIR_CORE }));
    contenders.push(await lab.picket('pooled', 'http2', PAIR_CORE));
    await warmUp(contenders, 'http2');
    const rows = await compare({
      contenders,
      reference: 'haproxy',
      ours: 'picket',
      measures: MEASURES,
      rounds,
      sample: async (contender) => await sampleAll(contender, seconds),
      onRound: (round) => progress(`http2, round ${round} of ${rounds}`),
    });
    const notes = ['Connections x streams at once on each. nghttpd answers, h2load asks'];
    return { name: this.name, title: this.title, reference: 'haproxy', rows, notes };
  },
};

async function sampleAll(contender: Contender, seconds: number): Promise<Sample> {
  const samples: Record<string, number> = {};
  for (const shape of SHAPES) {
    const { perSecond, cpuUs } = await sample(contender, shape, seconds);
    samples[`requests, ${nameOf(shape)}`] = perSecond;
    samples[`CPU per request, ${nameOf(shape)}`] = cpuUs;
  }
  return samples;
}

async function sample(
  { caller, entry, pids }: Contender,
  { connections, streams }: Shape,
  seconds: number,
): Promise<{ readonly perSecond: number; readonly cpuUs: number }> {
  const before = cpuSeconds(pids());
  const load = { connections, streams, seconds, cores: LOAD_CORE, uid: LOAD_UID };
  const { requests, perSecond } = await h2load({ host: caller, url: `http://${entry}/r`, ...load });
  return { perSecond, cpuUs: ((cpuSeconds(pids()) - before) / requests) * 1e6 };
}
