import type { DecisionReason, DecisionRequest, Verdict } from '../../shared/policy/decision.ts';
import {
  enforcementModeOf,
  type EnforcementMode,
  type EnforcementScope,
} from '../../shared/policy/enforcement.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { Authorizer } from './authorizer.ts';

/** Modes by scope, as the server tells. */
export type EnforcementModes = ReadonlyMap<EnforcementScope, EnforcementMode>;

/** What audit mode lets pass: the policy's own denials. No policy at all is none of them: then nothing would be decided. */
const AUDITED: ReadonlySet<DecisionReason> = new Set(['policy_deny', 'egress_deny', 'policy_error']);

/**
 * Lets pass what the policy denies to services in audit mode, marked as what would be denied. A change of modes makes open connections be judged again, as
 * one of the policy does.
 */
export function withAuditMode(authorizer: Authorizer, modes: Watched<EnforcementModes>): Authorizer {
  const judge = (request: DecisionRequest, verdict: Verdict): Verdict =>
    !verdict.isAllowed &&
    AUDITED.has(verdict.reason) &&
    enforcementModeOf(request.target.spiffeId, modes.current) === 'audit'
      ? { ...verdict, isAllowed: true, wouldDeny: { rules: [] } }
      : verdict;
  return {
    authorize: (request) => judge(request, authorizer.authorize(request)),
    authorizeEgress: (request, destination) =>
      judge(request, authorizer.authorizeEgress(request, destination)),
    get asksForDomain() {
      return authorizer.asksForDomain;
    },
    get changesWithTime() {
      return authorizer.changesWithTime;
    },
    watch: (listener) => {
      const stops = [authorizer.watch(listener), modes.watch(() => listener())];
      return () => {
        for (const stop of stops) stop();
      };
    },
  };
}
