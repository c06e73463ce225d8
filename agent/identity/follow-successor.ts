import { failureOf, toPicketError, type PicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { AgentSvid } from './agent-svid.ts';
import type { IdentityStore } from './identity-store.ts';
import type { WorkloadSvids } from './workload-svids.ts';

export interface FollowOptions {
  readonly store: Pick<IdentityStore, 'readAgentSvid' | 'readWorkloadSvids'>;
  readonly own: AgentSvid;
  readonly workloads: WorkloadSvids;
  /** The agent's own SVID is another one now: connections are to be made with it. */
  readonly onOwnChanged: () => void;
  readonly log: Log;
}

/** How often a process that was replaced looks for what its successor renewed. */
const FOLLOW_EVERY_MS = 2000;

/**
 * What a process does for its SVIDs after another one took over: takes those that the other one renewed and wrote down, and asks itself for what that leaves
 * overdue. Returns when to do so again, and why the server was asked in vain, if it was.
 */
export async function followSuccessor(
  options: FollowOptions,
): Promise<{ readonly delayMs: number; readonly error: PicketError | undefined }> {
  const { workloads } = options;
  await takeRenewed(options);
  const error = await failureOf(workloads.renewOverdue());
  const overdueMs = workloads.untilOverdueMs();
  return { delayMs: overdueMs > 0 ? Math.min(overdueMs, FOLLOW_EVERY_MS) : FOLLOW_EVERY_MS, error };
}

async function takeRenewed({ store, own, workloads, onOwnChanged, log }: FollowOptions): Promise<void> {
  try {
    const svid = await store.readAgentSvid();
    if (svid !== undefined && own.adopt(svid)) onOwnChanged();
    workloads.adopt(await store.readWorkloadSvids());
  } catch (error) {
    log.warn('renewed_not_read', { error: toPicketError(error) });
  }
}
