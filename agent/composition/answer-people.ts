import { startMetricsListener, startReadinessListener } from '../../shared/runtime/metrics-listener.ts';
import { startAdmin, type Admin } from '../admin/admin.ts';
import type { Capture } from '../capture/capture.ts';
import type { AgentBase } from './agent-base.ts';

/** Starts administration, metrics and readiness. Throws as `startAdmin`, and where an address cannot be listened on. */
export async function answerPeople(base: AgentBase, capture: Capture): Promise<Admin> {
  const { metrics, readiness } = base.config;
  const { parts, registry, sockets, denials, uid, clock, log } = base;
  const { contentType } = registry;
  const tellMetrics = async (): Promise<string> =>
    await (parts.workers?.metrics(registry) ?? registry.metrics());
  const listeners = [
    ...(metrics === undefined
      ? []
      : [startMetricsListener({ ...metrics, isShared: true }, { contentType, metrics: tellMetrics })]),
    ...(readiness === undefined ? [] : [startReadinessListener({ ...readiness, isShared: true }, parts)]),
  ];
  for (const listener of listeners) base.addHandedOver('figures', listener);
  const admin = await startAdmin({
    path: base.config.sockets.admin,
    sockets,
    clock,
    state: parts,
    denials,
    capture,
    upgrade: async () => await base.replacement.run(),
    agentUid: uid,
    log,
  });
  base.addHandedOver('admin', admin);
  return admin;
}
