import { PicketError } from '../../shared/errors/errors.ts';
import type { DecisionRequest } from '../../shared/policy/decision.ts';
import type { InputPath } from '../../shared/policy/policy-bundle.ts';
import type { PolicyEngine, PolicyEngineLoader } from '../../shared/policy/policy-engine.ts';
import { buildPolicyInput } from '../../shared/policy/policy-input.ts';
import { findResultFault } from '../../shared/policy/verdict.ts';
import type { PolicyStatement } from '../../shared/protocol/policy-statement.ts';
import { buildSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { DecisionCache } from './decision-cache.ts';
import { CLOCK, mayRead, NETWORKS, USER } from './policy-reads.ts';

/** A policy that is in force on this host. */
export interface LoadedPolicy {
  readonly statement: PolicyStatement;
  readonly engine: PolicyEngine;
  /** Undefined for a policy whose verdicts must not be kept. */
  readonly cache: DecisionCache | undefined;
  /** Whether its egress rule may read `target.domain`. */
  readonly asksForDomain: boolean;
  /** Whether it may read who the user is. */
  readonly asksForUser: boolean;
  /** Whether it may read in which networks the caller is. */
  readonly asksForNetworks: boolean;
  /** Whether the same question may have another answer later, by itself: it reads the clock, or a user whose token ends. */
  readonly changesWithTime: boolean;
}

/** The first evaluations of a module run in an interpreter and take up to 3 ms; no request should pay for that. */
const WARM_UP_ROUNDS = 10;

const DOMAIN: readonly InputPath[] = [['target', 'domain']];

/**
 * Loads an artefact, makes sure that it has the entry points of its statement, and evaluates each some times. Throws `invalid_argument`,
 * reason `policy_artifact_invalid` or `policy_warm_up_failed`.
 */
export async function loadPolicy(
  loader: PolicyEngineLoader,
  policy: { readonly statement: PolicyStatement; readonly artifact: Uint8Array },
  nowMs: number,
): Promise<LoadedPolicy> {
  const { statement } = policy;
  const engine = await loader.load(policy.artifact);
  const { allow, egress } = statement.entrypoints;
  for (const entrypoint of egress === undefined ? [allow] : [allow, egress]) {
    if (!engine.entrypoints.includes(entrypoint))
      throw refuse('policy_artifact_invalid', `it has no entry point ${entrypoint}`);
    warmUp(engine, { entrypoint, statement, nowMs });
  }
  const { reads } = engine;
  return {
    statement,
    engine,
    cache: DecisionCache.for(reads),
    asksForDomain: egress !== undefined && mayRead(reads, DOMAIN),
    asksForUser: mayRead(reads, USER),
    asksForNetworks: mayRead(reads, NETWORKS),
    changesWithTime: mayRead(reads, [...CLOCK, ...USER]),
  };
}

function warmUp(
  engine: PolicyEngine,
  options: { readonly entrypoint: string; readonly statement: PolicyStatement; readonly nowMs: number },
): void {
  const { entrypoint, statement, nowMs } = options;
  const direction = entrypoint === statement.entrypoints.egress ? 'outbound' : 'inbound';
  const inputs = sampleRequests(statement, nowMs).map((request) =>
    buildPolicyInput(request, { nowMs, direction }),
  );
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    for (const input of inputs) {
      const fault = evaluateForFault(engine, { entrypoint, input, nowMs });
      if (fault !== undefined) throw refuse('policy_warm_up_failed', `${entrypoint}: ${fault}`);
    }
  }
}

function evaluateForFault(
  engine: PolicyEngine,
  options: {
    readonly entrypoint: string;
    readonly input: Readonly<Record<string, unknown>>;
    readonly nowMs: number;
  },
): string | undefined {
  try {
    return findResultFault(engine.evaluate(options.entrypoint, options.input, options.nowMs));
  } catch (cause) {
    throw refuse('policy_warm_up_failed', `${options.entrypoint} cannot be evaluated`, cause);
  }
}

/** A request and a connection that any policy can be asked about. */
function sampleRequests(statement: PolicyStatement, nowMs: number): readonly DecisionRequest[] {
  const spiffeId = buildSpiffeId(statement.trustDomain, '/warm-up');
  const connection: DecisionRequest = {
    decisionId: 'warm-up',
    caller: { spiffeId, address: '192.0.2.1', port: 40_000, certificateNotAfterMs: nowMs },
    target: { spiffeId, address: '192.0.2.2', port: 80 },
    http: null,
  };
  const headers = { accept: '*/*', 'user-agent': 'warm-up' };
  return [
    connection,
    { ...connection, http: { method: 'GET', path: '/warm/up?a=b', host: 'warm-up', headers } },
  ];
}

function refuse(reason: string, why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', reason, `The policy is refused: ${why}`, { cause });
}
