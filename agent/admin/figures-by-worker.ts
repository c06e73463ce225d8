import type { Registry } from 'prom-client';
import { addCounter, addGauge } from '../../shared/runtime/metrics.ts';
import type { WorkerReport } from '../workers/worker-messages.ts';
import type { WorkerStatus } from '../workers/worker-slot.ts';
import type { AgentState } from './status.ts';

/** One series for each worker, of which there are as many as cores. */
export function addFiguresByWorker(registry: Registry, state: AgentState): void {
  const figure = (
    add: typeof addGauge,
    name: string,
    help: string,
    of: (worker: WorkerStatus) => number | undefined,
  ): void =>
    add(registry, {
      name,
      help,
      labels: ['worker'],
      read: (tell) => {
        for (const worker of state.workerStatus()) {
          const value = of(worker);
          if (value !== undefined) tell(value, { worker: String(worker.worker) });
        }
      },
    });
  figure(
    addGauge,
    'picket_worker_ready',
    '1 while the worker of the data path takes connections.',
    ({ isReady }) => (isReady ? 1 : 0),
  );
  figure(
    addCounter,
    'picket_worker_restarts_total',
    'How often the worker ended without being told to, and was started again.',
    ({ restarts }) => restarts,
  );
  figure(
    addGauge,
    'picket_worker_connections',
    'Connections that pass through the worker.',
    ({ report }) => report?.connections,
  );
  figure(
    addGauge,
    'picket_worker_decisions',
    'Decisions of the worker since it started.',
    ({ report }) => report && sumOf(report, 'picket_decisions_total'),
  );
  figure(
    addGauge,
    'picket_worker_handshakes',
    'TLS handshakes with other agents of the worker since it started.',
    ({ report }) => report && sumOf(report, 'picket_mesh_handshakes_total'),
  );
  figure(
    addGauge,
    'picket_worker_cpu_seconds',
    'CPU time that the worker has spent since it started, user and system.',
    ({ report }) => report?.cpuSeconds,
  );
  figure(
    addGauge,
    'picket_worker_resident_memory_bytes',
    'Resident memory of the worker.',
    ({ report }) => report?.residentBytes,
  );
}

function sumOf({ metrics }: WorkerReport, name: string): number {
  const values = metrics.find((metric) => metric.name === name)?.values ?? [];
  return values.reduce((sum, { value }) => sum + value, 0);
}
