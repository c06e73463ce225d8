import {
  NO_NETWORKS,
  NO_USER,
  type DecisionNetworks,
  type DecisionUser,
} from '../../shared/policy/circumstances.ts';
import type {
  DecisionCaller,
  DecisionHttpRequest,
  DecisionRequest,
  Verdict,
} from '../../shared/policy/decision.ts';
import { buildPolicyInput, type DecisionContext } from '../../shared/policy/policy-input.ts';
import type { PolicyInput } from '../../shared/policy/policy-engine.ts';
import { denyWith, toErrorVerdict, toVerdict, type VerdictContext } from '../../shared/policy/verdict.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { Authorizer } from './authorizer.ts';
import type { DecisionKind } from './decision-cache.ts';
import type { LoadedPolicy } from './loaded-policy.ts';

/** What decisions stand on. */
export interface AuthorizerOptions {
  readonly policy: Watched<LoadedPolicy | undefined>;
  readonly clock: Clock;
  readonly log: Log;
  /** Who stands behind a request; nobody unless given. Asked only for a policy that reads it. */
  readonly users?: { identify(http: DecisionHttpRequest | null): DecisionUser };
  /** In which networks a caller is; none is known unless given. */
  readonly networks?: { locate(caller: DecisionCaller): DecisionNetworks };
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
    get changesWithTime() {
      return options.policy.current?.changesWithTime === true;
    },
    watch: (listener) => options.policy.watch(() => listener()),
  };
}

interface Question {
  readonly direction: DecisionContext['direction'];
  /** Whether a policy without a rule for it leaves the decision to the other side. */
  readonly isNarrowing: boolean;
}

interface AskedQuestion extends Question {
  readonly user: DecisionUser;
  readonly latencyUs: () => number;
}

class Decider {
  readonly #options: AuthorizerOptions;
  #lastLogMs = -Infinity;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  decide(request: DecisionRequest, question: Question): Verdict {
    const { clock, policy, users } = this.#options;
    const loaded = policy.current;
    if (loaded === undefined) return denyWith('no_policy', { policyVersion: null, latencyUs: 0 });
    // Nobody is to be identified, and the same is asked again: looking at the clock would take longer than that.
    const known = loaded.asksForUser ? undefined : recall(loaded, request, { ...question, user: NO_USER });
    if (known !== undefined) return known;
    const startedMs = clock.monotonicMs();
    const latencyUs = (): number => (clock.monotonicMs() - startedMs) * 1000;
    const user = (loaded.asksForUser ? users?.identify(request.http) : undefined) ?? NO_USER;
    const verdict = this.#decideBy(loaded, request, { ...question, user, latencyUs });
    return user.kind === 'known' ? { ...verdict, userId: user.id } : verdict;
  }

  #decideBy(loaded: LoadedPolicy, request: DecisionRequest, question: AskedQuestion): Verdict {
    const { direction, user, latencyUs } = question;
    const kind = kindOf(question);
    const isLeaving = kind === 'leaving';
    const recent = recall(loaded, request, question);
    if (recent !== undefined) return { ...recent, latencyUs: latencyUs() };
    const { version, entrypoints } = loaded.statement;
    const denyReason = direction === 'inbound' ? 'policy_deny' : 'egress_deny';
    const context = (): VerdictContext => ({
      denyReason,
      isLeaving,
      policyVersion: version,
      latencyUs: latencyUs(),
    });
    const entrypoint = direction === 'inbound' ? entrypoints.allow : entrypoints.egress;
    if (entrypoint === undefined) return toVerdict(question.isNarrowing, context());
    const nowMs = this.#options.clock.nowMs();
    let input: PolicyInput;
    try {
      input = buildPolicyInput(request, { nowMs, direction, user, networks: this.#locate(loaded, request) });
    } catch (error) {
      return toErrorVerdict(error, context());
    }
    const key = loaded.cache?.keyOf(input, kind);
    const known = key === undefined ? undefined : loaded.cache?.find(key);
    if (known !== undefined) {
      loaded.cache?.keep(key, request, { kind, user, verdict: known });
      return { ...known, latencyUs: latencyUs() };
    }
    try {
      const value = loaded.engine.evaluate(entrypoint, input, nowMs);
      const verdict = toVerdict(value, context());
      loaded.cache?.keep(key, request, { kind, user, verdict });
      return verdict;
    } catch (error) {
      this.#logFailure(error, { entrypoint, version });
      // Where a policy fails is none of the caller's business.
      return denyWith('policy_error', context());
    }
  }

  #locate({ asksForNetworks }: LoadedPolicy, { caller }: DecisionRequest): DecisionNetworks {
    return (asksForNetworks ? this.#options.networks?.locate(caller) : undefined) ?? NO_NETWORKS;
  }

  #logFailure(error: unknown, fields: { readonly entrypoint: string; readonly version: number }): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#lastLogMs < LOG_INTERVAL_MS) return;
    this.#lastLogMs = nowMs;
    this.#options.log.error('policy_evaluation_failed', { ...fields, error });
  }
}

function kindOf({ direction, isNarrowing }: Question): DecisionKind {
  return direction === 'outbound' && !isNarrowing ? 'leaving' : direction;
}

function recall(
  { cache }: LoadedPolicy,
  request: DecisionRequest,
  question: Question & { readonly user: DecisionUser },
): Verdict | undefined {
  return cache?.findRecent(request, { kind: kindOf(question), user: question.user });
}
