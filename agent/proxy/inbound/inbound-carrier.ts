import { PicketError } from '../../../shared/errors/errors.ts';
import { DECISION_REASONS, type DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { encodeIpAddress } from '../../../shared/runtime/ip-address.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { buildProxyHeader, type ProxyEnd } from '../../../shared/wire/proxy-protocol.ts';
import type { Directory } from '../../directory/directory.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { ProcessIdentifier } from '../../workload-attestation/process-identity.ts';
import type { Arrival } from './arrival.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import { STRANGERS, type OpenConnections, type Party } from '../connections/connections.ts';
import type { FairTurns } from '../connections/fair-turns.ts';
import { findClientSource } from './client-source.ts';
import { failureOf } from '../judge/judgement-failure.ts';
import { buildClientCertBlock, buildClientCertLine } from './forwarded-client-cert.ts';
import { relayHttp1, relayHttp2, type RelayedRequests } from '../relays/relayed-requests.ts';
import type { Traces } from '../../traces/traces.ts';
import type { Encounter, Judge, Judgement, Refusal } from '../judge/judge.ts';
import { judgeTraced } from '../judge/judge-traced.ts';
import { findListenerFault, refusalOfApplication } from './listener-fault.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import { splice } from '../streams/splice.ts';
import { dialTcp } from '../streams/tcp-stream.ts';

export interface InboundCarrierOptions {
  readonly judge: Judge;
  readonly directory: Directory;
  readonly connections: OpenConnections;
  readonly turns: FairTurns;
  readonly processes: Pick<ProcessIdentifier, 'identifyListener'>;
  /** Of the connections to applications. */
  readonly mark: number;
  /** Of those that are made from the caller's address, as of `TransparentTarget`. */
  readonly transparentZone: number;
  readonly clock: Clock;
  /** Unless given, nothing is traced. */
  readonly traces?: Traces | undefined;
}

/** An arrival that found its listener, in the listener's namespace. */
export interface Visit extends InNamespace {
  readonly arrival: Arrival;
  readonly target: SpiffeId;
  readonly encounter: Encounter;
  /** When what it is permitted by was looked at (`OpenConnections.round`). */
  readonly round: number;
  /** When it was looked who listens there, by the monotonic clock. */
  readonly lookedAtMs: number;
  /** What the program expects before everything else. */
  readonly proxyProtocol?: 'v2' | undefined;
  /** It is connected from the caller's address. */
  readonly transparent?: true | undefined;
}

const DIAL_MS = 10_000;
/** For so long it counts who listens, in milliseconds: nearly all applications are connected within. */
const LOOK_COUNTS_MS = 100;

/** Carries what was let in between a client and an application of this host, and judges it again when something changes. */
export class InboundCarrier {
  readonly #options: InboundCarrierOptions;

  constructor(options: InboundCarrierOptions) {
    this.#options = options;
  }

  /** Each request is decided by itself. */
  relayHttp(
    visit: Visit,
    client: ByteStream,
    { first, application }: { readonly first: Uint8Array; readonly application?: ByteStream },
  ): void {
    const clientCertLine = buildClientCertLine(visit.target, visit.arrival.caller);
    relayHttp1(this.#requestsOf(visit, client, application), { first, clientCertLine });
  }

  /** Each stream is decided by itself. */
  relayHttp2(
    visit: Visit,
    client: ByteStream,
    {
      application,
      ...begin
    }: { readonly first: Uint8Array; readonly application?: ByteStream; readonly spoken?: Uint8Array },
  ): void {
    const clientCertBlock = buildClientCertBlock(visit.target, visit.arrival.caller);
    relayHttp2(this.#requestsOf(visit, client, application), { ...begin, clientCertBlock });
  }

  /** What was allowed as a connection passes as it is, behind `first`, which was read before. */
  splice(
    visit: Visit,
    client: ByteStream,
    { application, first }: { readonly application: ByteStream; readonly first?: Uint8Array },
  ): void {
    const connection = {
      party: partyOf(visit.arrival),
      reconsider: () => this.reconsider(visit, null),
      cut: (failure: StreamFailure) => client.abort(failure),
      close: (failure: StreamFailure) => application.abort(failure),
    };
    const forget = this.#options.connections.add(connection, visit.round);
    if (forget === undefined) return;
    if (first !== undefined) application.write(first);
    splice(client, application, (failure) => {
      forget();
      visit.encounter.passage?.end(failure);
    });
    client.resume();
    application.resume();
  }

  #requestsOf(visit: Visit, client: ByteStream, application: ByteStream | undefined): RelayedRequests {
    const { judge, connections, turns, clock } = this.#options;
    const { encounter, arrival, round } = visit;
    // From now on each request has a span.
    encounter.passage?.drop();
    let unconnected: Refusal | undefined;
    const connect = async (): Promise<ByteStream> => {
      try {
        return await this.connect(visit);
      } catch (error) {
        unconnected = refusalOfApplication(error);
        throw error;
      }
    };
    return {
      judge,
      connections,
      turns,
      clock,
      party: partyOf(arrival),
      round,
      endsAtMs: arrival.endsAtMs,
      onLeaving: arrival.onLeaving,
      client,
      application: application ?? connect,
      reopenApplication: connect,
      decide: (http) => this.#judge(visit, http),
      refuse: (refusal) => judge.refuse(encounter, { ...refusal, ...unconnected }),
      findLoss: (http) => this.reconsider(visit, http),
    };
  }

  #judge({ encounter, arrival }: Visit, http: DecisionHttpRequest): Judgement {
    const { judge, traces } = this.#options;
    if (traces === undefined) return judge.judgeAhead(encounter, http);
    const { connectionId } = arrival;
    return judgeTraced(traces, { encounter, http, connectionId }, (traceId) =>
      judge.judgeAhead(encounter, http, traceId),
    );
  }

  /** `http` is null for a connection, and undefined where no request is under way. */
  reconsider(visit: Visit, http: DecisionHttpRequest | null | undefined): StreamFailure | undefined {
    const { directory, judge } = this.#options;
    const { encounter, target, arrival } = visit;
    const loss = judge.findHold(encounter) ?? arrival.findLoss();
    if (loss !== undefined) return failureOf(judge.refuse(encounter, { ...loss, http: http ?? null }));
    const found = directory.find(arrival.destination, arrival);
    const isSame = found.kind === 'local' && found.spiffeId === target && found.namespace === visit.namespace;
    // The rules that bring back what it answers go with the option.
    if (!isSame || found.transparent !== visit.transparent)
      return failureOf(judge.refuse(encounter, { reason: 'listener_not_registered' }));
    if (http === undefined) return undefined;
    const decisionId = judge.newId();
    const verdict = judge.evaluate(encounter, decisionId, http);
    return verdict.isAllowed ? undefined : failureOf(judge.record(encounter, { decisionId, verdict }, http));
  }

  /** Connects to the application. Rejects with `unavailable`, reason `listener_unidentified` where another process has its port by now. */
  async connect(visit: Visit): Promise<ByteStream> {
    await this.#requireListener(visit);
    const { arrival, namespace, proxyProtocol, transparent } = visit;
    const { mark, transparentZone, directory, clock } = this.#options;
    const { source, destination } = arrival;
    const client =
      transparent === undefined ? undefined : findClientSource(arrival, { namespace, directory });
    // Before the application is touched: what cannot be told to it leaves no connection behind.
    const header = proxyProtocol === 'v2' ? buildProxyHeader(endOf(source), endOf(destination)) : undefined;
    const target = { ...destination, mark, timeoutMs: DIAL_MS, clock };
    const application = await dialTcp(
      client === undefined ? { ...target, namespace } : { ...target, client, zone: transparentZone },
    );
    if (header !== undefined) application.write(header);
    return application;
  }

  /** A connection may wait long for what is allowed on it, and its port be somebody else's by then. */
  async #requireListener({ arrival, target, namespace, lookedAtMs }: Visit): Promise<void> {
    const { processes, clock } = this.#options;
    if (clock.monotonicMs() - lookedAtMs < LOOK_COUNTS_MS) return;
    const { destination } = arrival;
    const fault = await findListenerFault(processes, { destination, target, namespace });
    if (fault === undefined) return;
    const { reason, message = DECISION_REASONS[reason].text } = fault;
    throw new PicketError('unavailable', reason, message);
  }
}

/** On whose account an arrival goes. */
export function partyOf({ caller, source, isLocal }: Arrival): Party {
  if (caller === null) return STRANGERS;
  return isLocal ? { name: caller.spiffeId } : { name: caller.spiffeId, host: source.address };
}

/** Without the zone of a link-local address, which the header has no place for. */
function endOf({ address, port }: SocketAddress): ProxyEnd {
  return { address: encodeIpAddress(address.replace(/%.*$/, '')), port };
}
