import type { DecisionHttpRequest, Verdict } from '../../../shared/policy/decision.ts';
import type { DomainCheck } from '../../egress/domain-check.ts';
import { domainNameOf } from '../../egress/domain-name.ts';
import type { Traces } from '../../traces/traces.ts';
import type { Encounter, Judge, Judgement } from '../judge/judge.ts';
import { judgeTraced } from '../judge/judge-traced.ts';

interface Asked {
  readonly judge: Judge;
  readonly domains: DomainCheck;
  readonly encounter: Encounter;
  /** As the client wrote it: a server name, or a host with or without a port. */
  readonly host: string;
  readonly http: DecisionHttpRequest | null;
}

/**
 * The encounter as the policy is to be asked about it: with the name as the target's domain, if only that makes it allowed and the name leads to the target;
 * undefined if it does not lead there. Only a name that the policy would allow is looked up: otherwise lookups would carry out what nothing else may.
 */
export async function nameTarget({
  judge,
  domains,
  encounter,
  host,
  http,
}: Asked): Promise<Encounter | undefined> {
  const domain = domainOf({ judge, encounter, host, http });
  if (domain === undefined) return encounter;
  const { caller, target } = encounter;
  return (await domains.leadsTo(domain, target.address, caller.spiffeId ?? caller.address))
    ? withDomain(encounter, domain)
    : undefined;
}

/** The name that would make the difference; undefined where none does. */
function domainOf({ judge, encounter, host, http }: Omit<Asked, 'domains'>): string | undefined {
  const domain = domainNameOf(host);
  if (domain === undefined) return undefined;
  const isAllowed = (asked: Encounter): boolean =>
    judge.evaluateEgress(asked, judge.newId(), 'outside', http).isAllowed;
  return !isAllowed(encounter) && isAllowed(withDomain(encounter, domain)) ? domain : undefined;
}

/** A denial by the address, with what is wrong with the policy's answer to the name that the client asks for, where that is why it does not make a difference. */
export function explainedByName(
  verdict: Verdict,
  { judge, encounter, host, http }: Omit<Asked, 'domains'>,
): Verdict {
  const domain = verdict.isAllowed ? undefined : domainNameOf(host);
  if (domain === undefined) return verdict;
  const byName = judge.evaluateEgress(withDomain(encounter, domain), judge.newId(), 'outside', http);
  return byName.reason === 'policy_error' ? byName : verdict;
}

function withDomain(encounter: Encounter, domain: string): Encounter {
  return { ...encounter, target: { ...encounter.target, domain } };
}

/** Hosts that are remembered of one connection; clients hardly ever ask for two. */
const MAX_HOSTS = 64;
/** Hosts of one connection that are looked up at the same time. */
const MAX_LEARNING = 4;

export interface RequestNamesOptions {
  readonly judge: Judge;
  readonly domains: DomainCheck;
  /** As it is decided by its address. */
  readonly plain: Encounter;
  readonly connectionId: string;
  /** What the policy's verdict on a request is on this connection. */
  readonly hold: (verdict: Verdict) => Verdict;
  /** Unless given, nothing is traced. */
  readonly traces?: Traces | undefined;
}

/**
 * Decides the requests of one connection that leaves the mesh, each by the host that it asks for. The name of the first is looked up before; one that comes up later
 * is refused until it was looked up, which the refusal begins: a decision waits for nobody.
 */
export class RequestNames {
  readonly #judge: Judge;
  readonly #domains: DomainCheck;
  readonly #plain: Encounter;
  readonly #hold: (verdict: Verdict) => Verdict;
  readonly #traces: Traces | undefined;
  readonly #connectionId: string;
  /** By host, those whose name leads to the target. */
  readonly #named = new Map<string, Encounter>();
  readonly #learning = new Set<string>();

  constructor(options: RequestNamesOptions) {
    this.#judge = options.judge;
    this.#domains = options.domains;
    this.#plain = options.plain;
    this.#hold = options.hold;
    this.#traces = options.traces;
    this.#connectionId = options.connectionId;
  }

  /** What the policy is asked about for a request. */
  encounterOf(http: DecisionHttpRequest | undefined): Encounter {
    return (http === undefined ? undefined : this.#named.get(http.host)) ?? this.#plain;
  }

  /** Finds out where the name leads that a request asks for. */
  async learn(http: DecisionHttpRequest): Promise<void> {
    const { host } = http;
    if (this.#learning.has(host) || this.#learning.size >= MAX_LEARNING) return;
    this.#learning.add(host);
    const asked = { judge: this.#judge, domains: this.#domains, encounter: this.#plain, host, http };
    const encounter = await nameTarget(asked);
    this.#learning.delete(host);
    if (encounter === undefined || encounter === this.#plain) return;
    if (this.#named.size >= MAX_HOSTS) this.#named.clear();
    this.#named.set(host, encounter);
  }

  /** Decides a request and records it. */
  judge(http: DecisionHttpRequest): Judgement {
    const encounter = this.encounterOf(http);
    if (this.#traces === undefined) return this.#decide(encounter, http);
    const request = { encounter, http, connectionId: this.#connectionId };
    return judgeTraced(this.#traces, request, (traceId) => this.#decide(encounter, http, traceId));
  }

  #decide(encounter: Encounter, http: DecisionHttpRequest, traceId?: string): Judgement {
    const decisionId = this.#judge.newId();
    const verdict = this.#hold(this.#judge.evaluateEgress(encounter, decisionId, 'outside', http));
    const asked = { judge: this.#judge, encounter, host: http.host, http };
    if (verdict.isAllowed || encounter !== this.#plain || domainOf(asked) === undefined)
      return this.#judge.record(encounter, { decisionId, verdict }, http, traceId);
    void this.learn(http);
    return this.#judge.refuse(encounter, { reason: 'domain_unverified', decisionId, http, traceId });
  }
}
