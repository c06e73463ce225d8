import { startLeftOverSpools } from '../audit/left-over-spools.ts';
import type { OpenedIdentity } from '../identity/open-identity-manager.ts';
import { countLanes } from '../workers/count-workers.ts';
import { shipLeftOverLanes } from '../workers/worker-lanes.ts';
import type { AgentBase } from './agent-base.ts';

/** Ships what others have left: workers of which there are no more, and agents that were replaced. */
export function shipLeftOvers(base: AgentBase, { api }: Pick<OpenedIdentity, 'api'>): void {
  const { config, predecessor, clock, log } = base;
  const shared = { ...config.audit, send: api.sendAudit.bind(api), clock, random: Math.random, log };
  const lanes = countLanes(config);
  const shipLanes = (): void => base.add('left-over lanes', shipLeftOverLanes({ ...shared, lanes }));
  // Only one agent does.
  if (predecessor === undefined) shipLanes();
  else predecessor.whenGone(shipLanes);
  base.addHandedOver('left-over records', startLeftOverSpools(shared));
}
