import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Directory } from '../directory/directory.ts';
import type { Arrival } from './arrival.ts';
import type { ByteStream, StreamFailure } from './byte-stream.ts';
import { STRANGERS, type OpenConnections, type Party } from './connections.ts';
import { failureOf } from './judgement-failure.ts';
import { buildClientCertBlock, buildClientCertLine } from './forwarded-client-cert.ts';
import { Http1Relay } from './http1-relay.ts';
import { Http2Relay } from './http2-relay.ts';
import type { Encounter, Judge } from './judge.ts';
import { splice } from './splice.ts';
import { dialTcp } from './tcp-stream.ts';

export interface InboundCarrierOptions {
  readonly judge: Judge;
  readonly directory: Directory;
  readonly connections: OpenConnections;
  /** Of the connections to applications. */
  readonly mark: number;
  readonly clock: Clock;
}

/** An arrival that found its listener. */
export interface Visit {
  readonly arrival: Arrival;
  readonly target: SpiffeId;
  readonly encounter: Encounter;
  /** When what it is permitted by was looked at (`OpenConnections.round`). */
  readonly round: number;
}

const DIAL_MS = 10_000;

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
    begin: { readonly first: Uint8Array; readonly application?: ByteStream },
  ): void {
    const { judge, connections, clock } = this.#options;
    const { encounter, target, arrival } = visit;
    // One that has lost its permit by now is over before it has begun.
    const place: { leave: (() => void) | undefined } = { leave: undefined };
    const relay = new Http1Relay({
      client,
      openApplication: async () => await this.connect(arrival),
      judge: (http) => judge.judge(encounter, judge.newId(), http),
      refuse: (refusal) => judge.refuse(encounter, refusal),
      clientCertLine: buildClientCertLine(target, arrival.caller),
      clock,
      endsAtMs: arrival.endsAtMs,
      onDone: () => place.leave?.(),
    });
    const connection = {
      party: partyOf(arrival),
      reconsider: () => this.reconsider(visit, relay.current),
      cut: (failure: StreamFailure) => relay.cut(failure),
    };
    place.leave = connections.add(connection, visit.round);
    if (place.leave === undefined) return begin.application?.abort();
    relay.start(begin.first, begin.application);
    client.resume();
    begin.application?.resume();
  }

  /** Each stream is decided by itself. */
  relayHttp2(
    visit: Visit,
    client: ByteStream,
    begin: { readonly first: Uint8Array; readonly application?: ByteStream; readonly spoken?: Uint8Array },
  ): void {
    const { judge, connections, clock } = this.#options;
    const { encounter, target, arrival } = visit;
    // One that has lost its permit by now is over before it has begun.
    const place: { leave: (() => void) | undefined } = { leave: undefined };
    const relay = new Http2Relay({
      client,
      openApplication: async () => await this.connect(arrival),
      judge: (http) => judge.judge(encounter, judge.newId(), http),
      refuse: (refusal) => judge.refuse(encounter, refusal),
      clientCertBlock: buildClientCertBlock(target, arrival.caller),
      clock,
      endsAtMs: arrival.endsAtMs,
      onDone: () => place.leave?.(),
    });
    const connection = {
      party: partyOf(arrival),
      reconsider: () => {
        const failure = this.reconsider(visit, undefined);
        if (failure === undefined) relay.reconsider((http) => this.reconsider(visit, http));
        return failure;
      },
      cut: (failure: StreamFailure) => relay.cut(failure),
    };
    place.leave = connections.add(connection, visit.round);
    if (place.leave === undefined) return begin.application?.abort();
    relay.start(begin);
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
    splice(client, application, () => forget());
    client.resume();
    application.resume();
  }

  /** `http` is null for a connection, and undefined where no request is under way. */
  reconsider(visit: Visit, http: DecisionHttpRequest | null | undefined): StreamFailure | undefined {
    const { directory, judge } = this.#options;
    const { encounter, target, arrival } = visit;
    const loss = judge.findHold(encounter) ?? arrival.findLoss();
    if (loss !== undefined) return failureOf(judge.refuse(encounter, { ...loss, http: http ?? null }));
    const found = directory.find(arrival.destination);
    if (found.kind !== 'local' || found.spiffeId !== target)
      return failureOf(judge.refuse(encounter, { reason: 'listener_not_registered' }));
    if (http === undefined) return undefined;
    const decisionId = judge.newId();
    const verdict = judge.evaluate(encounter, decisionId, http);
    return verdict.isAllowed ? undefined : failureOf(judge.record(encounter, { decisionId, verdict }, http));
  }

  /** Connects to the application. Rejects with `unavailable`. */
  async connect({ destination }: Arrival): Promise<ByteStream> {
    const { mark, clock } = this.#options;
    return await dialTcp({ ...destination, mark, timeoutMs: DIAL_MS, clock });
  }
}

/** On whose account an arrival goes. */
export function partyOf({ caller, source, isLocal }: Arrival): Party {
  if (caller === null) return STRANGERS;
  return isLocal ? { name: caller.spiffeId } : { name: caller.spiffeId, host: source.address };
}
