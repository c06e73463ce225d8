import type { DecisionReason, Verdict } from '../../../shared/policy/decision.ts';

/** An allow that is none after all. */
export function denied(verdict: Verdict, reason: DecisionReason, message: string): Verdict {
  const { wouldDeny: _, terms: __, ...decided } = verdict;
  return { ...decided, isAllowed: false, reason, message };
}
