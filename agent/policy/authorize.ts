import type { DecisionRequest, Verdict } from '../../shared/policy/decision.ts';
import { buildPolicyInput, type DecisionContext } from '../../shared/policy/policy-input.ts';
import type { PolicyInput } from '../../shared/policy/policy-engine.ts';
import { denyWith, toErrorVerdict, toVerdict, type VerdictContext } from '../../shared/policy/verdict.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { Authorizer } from './authorizer.ts';
import type { LoadedPolicy } from './loaded-policy.ts';

/** What decisions stand on. */
export interface AuthorizerOptions {
  readonly policy: Watched<LoadedPolicy | undefined>;
  readonly clock: Clock;
  readonly log: Log;
}

/** How often at most a failing evaluation is logged, in milliseconds: callers can bring it about, and each is in the audit trail. */
const LOG_INTERVAL_MS = 10_000;

/** Decides by the policy in force; without one everything is denied. A failure of whatever kind is a denial. */
export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  const decider = new Decider(options);
  return {
    authorize: (request) => decider.decide(request, { direction: 'inbound', isNarrowing: false }),
    authorizeEgress: (request, destination) =>
      decider.decide(request, { direction: 'outbound', isNarrowing: destination === 'mesh' }),
    get asksForDomain() {
      return options.policy.current?.asksForDomain === true;
    },
    watch: (listener) => options.policy.watch(() => listener()),
  };
}

interface Question {
  readonly direction: DecisionContext['direction'];
  /** Whether a policy without a rule for it leaves the decision to the other side. */
  readonly isNarrowing: boolean;
}

class Decider {
  readonly #options: AuthorizerOptions;
  #lastLogMs = -Infinity;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  decide(request: DecisionRequest, question: Question): Verdict {
    const { clock, policy } = this.#options;
    const startedMs = clock.monotonicMs();
    const latencyUs = (): number => (clock.monotonicMs() - startedMs) * 1000;
    const loaded = policy.current;
    if (loaded === undefined) return denyWith('no_policy', { policyVersion: null, latencyUs: latencyUs() });
    const { version, entrypoints } = loaded.statement;
    const { direction } = question;
    const recent = loaded.cache?.findRecent(request, direction);
    if (recent !== undefined) return { ...recent, latencyUs: latencyUs() };
    const denyReason = question.direction === 'inbound' ? 'policy_deny' : 'egress_deny';
    const context = (): VerdictContext => ({ denyReason, policyVersion: version, latencyUs: latencyUs() });
    const entrypoint = question.direction === 'inbound' ? entrypoints.allow : entrypoints.egress;
    if (entrypoint === undefined) return toVerdict(question.isNarrowing, context());
    const nowMs = clock.nowMs();
    let input: PolicyInput;
    try {
      input = buildPolicyInput(request, { nowMs, direction });
    } catch (error) {
      return toErrorVerdict(error, context());
    }
    const key = loaded.cache?.keyOf(input, direction);
    const known = key === undefined ? undefined : loaded.cache?.find(key);
    if (known !== undefined) {
      loaded.cache?.keep(key, request, { direction, verdict: known });
      return { ...known, latencyUs: latencyUs() };
    }
    try {
      const value = loaded.engine.evaluate(entrypoint, input, nowMs);
      const verdict = toVerdict(value, context());
      loaded.cache?.keep(key, request, { direction, verdict });
      return verdict;
    } catch (error) {
      this.#logFailure(error, { entrypoint, version });
      // Where a policy fails is none of the caller's business.
      return denyWith('policy_error', context());
    }
  }

  #logFailure(error: unknown, fields: { readonly entrypoint: string; readonly version: number }): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#lastLogMs < LOG_INTERVAL_MS) return;
    this.#lastLogMs = nowMs;
    this.#options.log.error('policy_evaluation_failed', { ...fields, error });
  }
}
