import type { DecisionRequest, Verdict } from '../../shared/policy/decision.ts';

/** The policy decision point of the host (PDP). Every failure is a denial: it never throws. */
export interface Authorizer {
  /** Decides on the called side (`allow`). */
  authorize(request: DecisionRequest): Verdict;
  /** Decides on the calling side (`egress`): within the mesh a policy without an egress rule narrows nothing; outside it nothing leaves. */
  authorizeEgress(request: DecisionRequest, destination: 'mesh' | 'outside'): Verdict;
  /** Whether what leaves the mesh may be decided by the name that the client asks for (`target.domain`): then its first bytes are worth waiting for. */
  readonly asksForDomain: boolean;
  /** Whether an answer may change with time alone: what is open is then judged again and again. */
  readonly changesWithTime: boolean;
  /** Calls `listener` after another policy came into force; open connections are then judged again. */
  watch(listener: () => void): () => void;
}
