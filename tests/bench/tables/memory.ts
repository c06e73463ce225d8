import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Benchmark, BenchRun } from '../bench-run.ts';
import { compare } from '../compare.ts';
import type { Contender } from '../contenders/contender.ts';
import { LOAD_UID, PAIR_CORE, PEERS } from '../lab.ts';
import type { Measure, Sample, Table } from '../measure.ts';
import { memoryKib } from '../process-cost.ts';
import { asUser } from '../../kit/programs.ts';

const name = 'memory';
const title = 'Memory of both sides of a TCP pair';
const CONNECTIONS = 1000;
const PROGRAM = readFileSync(join(import.meta.dirname, '../load/hold-connections.py'), 'utf8');

const measures: readonly Measure[] = [
  { name: 'before', unit: 'MiB', better: 'less', floor: 4 },
  { name: `with ${CONNECTIONS} connections`, unit: 'MiB', better: 'less' },
  { name: 'for each connection', unit: 'KiB', better: 'less', floor: 0.4 },
];

/** Before it has carried much, which is why it comes first, and with connections that are open and idle. */
export const memory: Benchmark = { name, title, isQuick: false, measure };

async function measure(run: BenchRun): Promise<Table> {
  const contenders: Contender[] = [];
  for (const peer of PEERS)
    contenders.push(await run.lab.peer(peer, { mode: 'tcp', sessions: 'resumed', cores: PAIR_CORE }));
  contenders.push(await run.lab.picket('pooled', 'tcp', PAIR_CORE));
  const idleKib = new Map(contenders.map((contender) => [contender.name, memoryKib(contender.pids())]));
  const rows = await compare({
    contenders,
    reference: 'haproxy',
    ours: 'picket',
    measures,
    rounds: 1,
    sample: async (contender) => await sample(contender, idleKib.get(contender.name) ?? Number.NaN),
    onRound: (round) => run.progress(`${name}, round ${round} of 1`),
  });
  const notes = [
    'Pss: what processes share is divided among them',
    'one request on each connection, then idle',
  ];
  return { name, title, reference: 'haproxy', rows, notes };
}

async function sample(contender: Contender, idleKib: number): Promise<Sample> {
  const [host = '', port = ''] = contender.entry.split(':');
  const command = asUser(LOAD_UID, '/usr/bin/python3', '-c', PROGRAM, host, port, String(CONNECTIONS));
  const holder = Bun.spawn(contender.caller.in(...command), {
    cwd: '/',
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
  });
  try {
    const first = await holder.stdout.getReader().read();
    if (first.done) throw new Error(`${contender.name}: not all connections could be opened`);
    const kib = memoryKib(contender.pids());
    return {
      before: idleKib / 1024,
      [`with ${CONNECTIONS} connections`]: kib / 1024,
      'for each connection': (kib - idleKib) / CONNECTIONS,
    };
  } finally {
    holder.kill();
    await holder.exited;
  }
}
