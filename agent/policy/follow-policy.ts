import type { SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { PolicyHolder } from './policy-holder.ts';

/** Offers to `holder` each policy that the server tells of; what it returns ends that. */
export function followPolicy(
  told: Watched<{ readonly policy: SignedPolicy | undefined }>,
  holder: Pick<PolicyHolder, 'offer'>,
): () => void {
  const unwatch = told.watch((state, previous) => {
    if (state.policy !== undefined && state.policy !== previous.policy) void holder.offer(state.policy);
  });
  // One that was told before a restart may never have been fetched.
  const { policy } = told.current;
  if (policy !== undefined) void holder.offer(policy);
  return unwatch;
}
