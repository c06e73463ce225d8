import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { AgentMetrics } from '../admin/agent-metrics.ts';
import type { AgentConfig } from '../config/config.ts';
import { createMarkedDial } from '../server-link/marked-dial.ts';
import type { Traces } from '../traces/traces.ts';

/** Opens what is traced by the configuration; undefined where nothing is: whoever does not trace does not pay for the library. */
export async function openConfiguredTraces(
  config: Pick<AgentConfig, 'traces'> & { readonly capture: Pick<AgentConfig['capture'], 'mark'> },
  {
    metrics,
    clock,
    log,
  }: { readonly metrics: Pick<AgentMetrics, 'spansLost'>; readonly clock: Clock; readonly log: Log },
): Promise<(Traces & Running) | undefined> {
  if (config.traces === undefined) return undefined;
  const { openTraces } = await import('../traces/open-traces.ts');
  return await openTraces({
    config: config.traces,
    dial: createMarkedDial(config.capture.mark),
    clock,
    log,
    onLost: (why, count) => metrics.spansLost(why, count),
  });
}
