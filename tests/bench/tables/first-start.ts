import { join } from 'node:path';
import { createMesh } from '../../kit/mesh.ts';
import type { Benchmark, BenchRun } from '../bench-run.ts';
import { ownRow } from '../compare.ts';
import type { Table } from '../measure.ts';

const name = 'first-start';
const title = 'First start on an empty disk, until it serves';

/** A server with an embedded database, and an agent with a join token: attested, with its first SVID, ready. */
export const firstStart: Benchmark = { name, title, isQuick: false, measure };

async function measure(run: BenchRun): Promise<Table> {
  const serverMs: number[] = [];
  const agentMs: number[] = [];
  for (let round = 1; round <= run.rounds; round++) {
    run.progress(`${name}, round ${round} of ${run.rounds}`);
    const folder = join(run.lab.folder, `start-${Date.now()}`);
    const mesh = await createMesh({ folder, trustDomain: 'bench.test', hosts: 2 });
    try {
      // The same again, with the certificate authority made and the clock running.
      await mesh.control.stop();
      mesh.control.changeDatabase();
      serverMs.push(await timed(async () => await mesh.control.start()));
      const [, host] = mesh.network.hosts;
      if (host === undefined) throw new RangeError('The network has too few hosts');
      const agent = await mesh.prepareJoin(host, 'first');
      agentMs.push(await timed(async () => await agent.start()));
    } finally {
      await mesh.remove();
    }
  }
  const rows = [
    ownRow({ name: 'server', unit: 'ms', better: 'less' }, serverMs),
    ownRow({ name: 'agent', unit: 'ms', better: 'less' }, agentMs),
  ];
  return { name, title, rows, notes: ['as seen by a client that looks every 20 ms'] };
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}
