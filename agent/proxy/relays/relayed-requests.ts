import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Arrival } from '../inbound/arrival.ts';
import type { CarriedStreams } from '../connections/unjudged-streams.ts';
import type { OpenConnections, Party } from '../connections/connections.ts';
import type { FairTurns } from '../connections/fair-turns.ts';
import { Http1Relay } from '../http1/relay.ts';
import { Http2Relay } from '../http2/relay.ts';
import type { Judge, Judgement, Refusal } from '../judge/judge.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';

/** What holds for all requests of one connection, whichever way it goes. */
export interface RelayedRequests {
  readonly judge: Pick<Judge, 'whenKept' | 'commit'>;
  readonly connections: OpenConnections;
  readonly turns: FairTurns;
  readonly clock: Clock;
  /** On whose account the connection goes. */
  readonly party: Party;
  /** When what it is permitted by was looked at (`OpenConnections.round`). */
  readonly round: number;
  /** When the client's connection will be cut, by the monotonic clock; `Infinity` where that is not known. */
  readonly endsAtMs: number;
  readonly onLeaving: Arrival['onLeaving'];
  readonly client: ByteStream;
  /** Connected already, or how to connect to it when the first request is allowed, which rejects with `unavailable`. */
  readonly application: ByteStream | (() => Promise<ByteStream>);
  /** As of `Http1RelayOptions`. */
  readonly reopenApplication?: () => Promise<ByteStream>;
  /** As of `Http1RelayOptions`; no unless given. */
  readonly endsIdle?: boolean;
  /** Decides a request and records it; what is allowed perhaps later, with others. */
  readonly decide: (http: DecisionHttpRequest) => Judgement;
  /** Records a refusal that is not the policy's. */
  readonly refuse: (refusal: Refusal) => Judgement;
  /** Why a request, or where there is none the connection itself, has lost its permit; recorded. */
  readonly findLoss: (http: DecisionHttpRequest | undefined) => StreamFailure | undefined;
}

/** Relays HTTP/1.1, each request by itself, for as long as the connection is let. */
export function relayHttp1(
  requests: RelayedRequests,
  { first, clientCertLine }: { readonly first: Uint8Array; readonly clientCertLine: Uint8Array },
): void {
  const { judge, client, endsIdle = false, reopenApplication } = requests;
  const place = new Place();
  const relay = new Http1Relay({
    ...relayOptions(requests, place),
    whenKept: (batch, goOn) => judge.whenKept(batch, goOn),
    reopenApplication,
    endsIdle,
    clientCertLine,
  });
  if (!place.enter(requests, relay, { reconsider: () => requests.findLoss(relay.current) })) return;
  const application = connectedOf(requests);
  relay.start(first, application);
  client.resume();
  application?.resume();
}

/** Relays HTTP/2, each stream by itself; `first` is the client's whole preface at least, and `spoken` what the application has said already. */
export function relayHttp2(
  requests: RelayedRequests,
  {
    clientCertBlock,
    ...begin
  }: { readonly first: Uint8Array; readonly spoken?: Uint8Array; readonly clientCertBlock: Uint8Array },
): void {
  const { judge, findLoss } = requests;
  const place = new Place();
  const relay = new Http2Relay({
    ...relayOptions(requests, place),
    commit: () => judge.commit(),
    heads: requests.connections.heads,
    clientCertBlock,
  });
  const streams = relay.carried((http) => findLoss(http));
  if (!place.enter(requests, relay, { reconsider: () => findLoss(undefined), streams })) return;
  const application = connectedOf(requests);
  relay.start(application === undefined ? begin : { ...begin, application });
}

/** The place of a relay among the open connections. */
class Place {
  #leave: (() => void) | undefined;

  /** False: it has lost its permit by now, and is over before it has begun. */
  enter(
    requests: RelayedRequests,
    relay: Pick<Http1Relay, 'cut' | 'retire'>,
    judged: { readonly reconsider: () => StreamFailure | undefined; readonly streams?: CarriedStreams },
  ): boolean {
    const { connections, party, round, onLeaving } = requests;
    const connection = {
      party,
      ...judged,
      cut: (failure: StreamFailure) => relay.cut(failure),
      retire: () => relay.retire(),
    };
    this.#leave = connections.add(connection, round);
    if (this.#leave === undefined) {
      connectedOf(requests)?.abort();
      return false;
    }
    onLeaving(() => relay.retire());
    return true;
  }

  leave(): void {
    this.#leave?.();
  }
}

function relayOptions(
  { client, application, decide, refuse, turns, party, clock, endsAtMs }: RelayedRequests,
  place: Place,
) {
  return {
    client,
    openApplication: typeof application === 'function' ? application : () => Promise.resolve(application),
    judge: decide,
    refuse,
    turns,
    party,
    clock,
    endsAtMs,
    onDone: () => place.leave(),
  };
}

function connectedOf({ application }: RelayedRequests): ByteStream | undefined {
  return typeof application === 'function' ? undefined : application;
}
