import { DEFAULT_WORKLOAD_API_LIMITS, startWorkloadApi } from '../workload-api/workload-api.ts';
import type { AgentBase } from './agent-base.ts';
import type { Knowledge } from './open-knowledge.ts';

/** Serves the Workload API to the programs of this host. Rejects as `startWorkloadApi`. */
export async function serveWorkloads(
  base: AgentBase,
  { manager, processes, quarantine }: Pick<Knowledge, 'manager' | 'processes' | 'quarantine'>,
): Promise<void> {
  const { config, sockets, clock, log } = base;
  const api = await startWorkloadApi({
    path: config.sockets.workloadApi,
    sockets,
    identities: manager,
    processes,
    quarantine,
    clock,
    log,
    limits: { ...DEFAULT_WORKLOAD_API_LIMITS, ...config.limits.workloadApi },
  });
  base.addHandedOver('workload api', api);
  base.parts.api = api;
}
