import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { EgressTerms } from '../../../shared/policy/egress-terms.ts';
import { domainNameOf } from '../../egress/domain-name.ts';
import type { Encounter, Judge, Judgement, Refusal } from '../judge/judge.ts';
import { failureOf } from '../judge/judgement-failure.ts';
import { judgeTraced } from '../judge/judge-traced.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import type { Traces } from '../../traces/traces.ts';
import { ChosenTerms } from './chosen-terms.ts';

export interface InspectedRequestsOptions {
  readonly judge: Judge;
  /** As the connection was decided, by its ClientHello. */
  readonly connection: Encounter;
  /** The name that the program asked for, and the server has proven. */
  readonly name: string;
  /** On which the connection was let out. */
  readonly terms: EgressTerms | undefined;
  readonly connectionId: string;
  /** Unless given, nothing is traced. */
  readonly traces?: Traces | undefined;
}

const HTTPS = 'https';
/** Of a host that a refusal tells. */
const MAX_HOST = 253;

/**
 * Decides the requests within one inspected connection. Each must ask for the very name that the server has proven: a front that serves many would else answer for another one. The connection
 * itself goes on needing its permit beside them.
 */
export class InspectedRequests {
  /** As requests are decided: the name counts, since the server has proven it. */
  readonly encounter: Encounter;
  readonly name: string;
  /** As it was decided, by the ClientHello alone. */
  readonly connection: Encounter;
  readonly #judge: Judge;
  readonly #connectionId: string;
  readonly #traces: Traces | undefined;
  readonly #terms = new ChosenTerms();
  #hasAllowed = false;
  /** Verdicts are remembered by the very request. */
  readonly #within = new WeakMap<DecisionHttpRequest, DecisionHttpRequest>();

  constructor({ judge, connection, name, terms, connectionId, traces }: InspectedRequestsOptions) {
    this.#judge = judge;
    this.connection = connection;
    this.#connectionId = connectionId;
    this.#traces = traces;
    this.name = name;
    this.encounter = { ...connection, target: { ...connection.target, domain: name } };
    this.#terms.choose(terms);
  }

  /** Whether something was let through to the server. */
  get hasAllowed(): boolean {
    return this.#hasAllowed;
  }

  /** Decides the connection again, now that its server has proven itself, and records it. */
  decideConnection(decisionId: string): Judgement {
    const { connection } = this;
    const verdict = this.#terms.hold(this.#judge.evaluateEgress(connection, decisionId, 'outside'));
    return this.#judge.record(connection, { decisionId, verdict }, null);
  }

  /** Decides a request and records it. */
  decide(asked: DecisionHttpRequest): Judgement {
    const { encounter } = this;
    const http = this.#withinTls(asked);
    if (this.#traces === undefined) return this.#judgeWithin(http);
    const request = { encounter, http, connectionId: this.#connectionId };
    return judgeTraced(this.#traces, request, (traceId) => this.#judgeWithin(http, traceId));
  }

  /** Why the policy lets the connection, or a request that is under way in it, out no more; recorded. */
  findLoss(asked: DecisionHttpRequest | undefined): StreamFailure | undefined {
    const ofConnection = this.#findDenial(this.connection, null);
    if (ofConnection !== undefined || asked === undefined) return ofConnection;
    return this.#findDenial(this.encounter, this.#withinTls(asked));
  }

  #judgeWithin(http: DecisionHttpRequest, traceId?: string): Judgement {
    const refusal = this.#findRefusal(http);
    if (refusal !== undefined) return this.#judge.refuse(this.encounter, { ...refusal, http, traceId });
    const decisionId = this.#judge.newId();
    const verdict = this.#terms.hold(this.#judge.evaluateEgress(this.encounter, decisionId, 'outside', http));
    this.#hasAllowed ||= verdict.isAllowed;
    return this.#judge.record(this.encounter, { decisionId, verdict }, http, traceId);
  }

  #findDenial(encounter: Encounter, http: DecisionHttpRequest | null): StreamFailure | undefined {
    const decisionId = this.#judge.newId();
    const verdict = this.#terms.hold(this.#judge.evaluateEgress(encounter, decisionId, 'outside', http));
    if (verdict.isAllowed) return undefined;
    return failureOf(this.#judge.record(encounter, { decisionId, verdict }, http));
  }

  #findRefusal({ host, scheme, headers }: DecisionHttpRequest): Refusal | undefined {
    if (domainNameOf(host) !== this.name)
      return {
        reason: 'domain_unverified',
        message: `It asks for ${host === '' ? 'nobody' : host.slice(0, MAX_HOST)} within TLS to ${this.name}`,
      };
    if (scheme !== HTTPS) return { reason: 'protocol_error', message: `It asks for ${scheme} within TLS` };
    // What follows is not looked into: of that, no more than programs of the web need.
    const other = [headers['upgrade'], headers[':protocol']].find(
      (protocol) => protocol !== undefined && protocol.toLowerCase() !== 'websocket',
    );
    if (other === undefined) return undefined;
    const message = `It asks to go on in ${other.slice(0, MAX_HOST)} within TLS that is inspected`;
    return { reason: 'protocol_error', message };
  }

  /** HTTP/1.1 does not say by what it came. */
  #withinTls(http: DecisionHttpRequest): DecisionHttpRequest {
    if (http.scheme !== undefined) return http;
    const known = this.#within.get(http);
    if (known !== undefined) return known;
    const within = { ...http, scheme: HTTPS };
    this.#within.set(http, within);
    return within;
  }
}
