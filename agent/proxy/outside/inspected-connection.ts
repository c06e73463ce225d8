import { toPicketError } from '../../../shared/errors/errors.ts';
import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { classifyHttp } from '../../../shared/wire/http1-detect.ts';
import type { OpenConnections } from '../connections/connections.ts';
import type { FairTurns } from '../connections/fair-turns.ts';
import { awaitFirstMove } from '../first-words/first-move.ts';
import type { Encounter, Judge, Judgement, Refusal } from '../judge/judge.ts';
import { failureOf } from '../judge/judgement-failure.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import { endInOrder } from '../streams/end-in-order.ts';
import { refusalOfProgram } from './broken-program.ts';
import type { InspectedRequests } from './inspected-requests.ts';
import type { InspectedProtocol, Inspector, MetServer } from './inspector.ts';
import type { Leaving } from './leaving.ts';
import { relayHttp1Out, relayHttp2Out, type RequestsOut } from './requests-out.ts';
import { waitWatched, type Cut } from '../connections/watched-wait.ts';
import { WaitingClient } from './waiting-client.ts';

export interface InspectedConnectionOptions {
  readonly judge: Judge;
  readonly connections: OpenConnections;
  readonly turns: FairTurns;
  readonly clock: Clock;
  readonly inspector: Inspector;
  readonly leaving: Leaving;
  readonly requests: InspectedRequests;
  /** Why a connection has lost what it was permitted by, besides the policy. */
  readonly findLoss: (leaving: Leaving, encounter: Encounter) => StreamFailure | undefined;
}

/** A connection that is to be inspected, as it was decided by its ClientHello. */
export interface DecidedByHello {
  readonly judgement: Judgement;
  /** The ClientHello, and what came behind it. */
  readonly first: Uint8Array;
}

/** A client that both agreed on HTTP/2 with begins to speak it within this time. */
const PREFACE_MS = 10_000;
const NO_BYTES = new Uint8Array(0);
const LEFT = {
  reason: 'inspection_refused',
  message: 'The program left before its server had proven itself',
} as const;

/** One connection that is inspected, from its ClientHello on: the server is met, the program's TLS ends here, and requests are relayed between them. */
export class InspectedConnection {
  readonly #options: InspectedConnectionOptions;
  /** Ends what is being set up. */
  readonly #giveUp = new AbortController();

  constructor(options: InspectedConnectionOptions) {
    this.#options = options;
  }

  /** Sees it out, or refuses it. */
  async leave({ judgement, first }: DecidedByHello): Promise<void> {
    const { leaving, requests } = this.#options;
    const waiting = new WaitingClient(leaving.accept(), first);
    const met = await this.#meet(judgement, waiting);
    if (met === undefined) return;
    const recorded = requests.decideConnection(judgement.decisionId);
    if (recorded.verdict.isAllowed) return await this.#stand(met, waiting.take());
    met.stream.abort();
    leaving.deny(failureOf(recorded));
  }

  /** Connects to the server while the program waits; undefined: it is refused, cut or gone, and over. */
  async #meet({ decisionId, verdict }: Judgement, waiting: WaitingClient): Promise<MetServer | undefined> {
    const { inspector, leaving, requests } = this.#options;
    const { connection, name } = requests;
    const { target, tls } = connection;
    const { address, port } = target;
    const { signal } = this.#giveUp;
    const asker = leaving.party.name;
    const terms = verdict.terms?.certificate;
    const alpn = tls?.alpn ?? [];
    const meeting = inspector.meet({ address, port, name, alpn, terms, asker, signal });
    const found = await this.#watched(Promise.race([meeting, waiting.gone]));
    if (found !== 'gone' && 'stream' in found) return found;
    this.#giveUp.abort();
    void meeting.then((met) => ('stream' in met ? met.stream.abort() : undefined));
    if (found === 'gone') this.#deny({ ...LEFT, decisionId });
    else if ('refusal' in found) this.#deny({ ...found.refusal, decisionId });
    else leaving.deny(found.failure);
    return undefined;
  }

  /** Ends the program's TLS, and relays what is within. */
  async #stand(met: MetServer, first: Uint8Array): Promise<void> {
    const { leaving, requests } = this.#options;
    const { stream: server, protocol } = met;
    const client = await this.#endTls(protocol, first);
    if (client === undefined) return server.abort();
    // From now on each request has a span.
    requests.encounter.passage?.drop();
    // What becomes of a request that was sent there, its relay records.
    server.onWordless = (failure) =>
      requests.hasAllowed ? failure : this.#refuse('inspection_refused', failure.message);
    const out = this.#out(client, server);
    if (protocol === 'h2') await this.#relayHttp2(out, server);
    else relayHttp1Out(leaving, out, NO_BYTES);
  }

  /** Undefined: it was refused, or cut, and is over. */
  async #endTls(protocol: InspectedProtocol, first: Uint8Array): Promise<ByteStream | undefined> {
    const { inspector, leaving, requests } = this.#options;
    const { signal } = this.#giveUp;
    const { name } = requests;
    const standing = inspector.standFor(leaving.accept(), { name, protocol, first, signal });
    try {
      const client = await this.#watched(standing);
      if (!('kind' in client)) return client;
      this.#giveUp.abort();
      standing.then(
        (within) => within.abort(client.failure),
        () => undefined,
      );
      leaving.deny(client.failure);
    } catch (error) {
      this.#deny(refusalOfProgram(toPicketError(error)));
    }
    return undefined;
  }

  async #relayHttp2(out: RequestsOut, server: ByteStream): Promise<void> {
    const { clock, leaving } = this.#options;
    const { client } = out;
    client.resume();
    const moving = awaitFirstMove({ client, clock, silenceMs: PREFACE_MS, classify: classifyHttp });
    const move = await this.#watched(moving);
    if (move.kind === 'http2') return relayHttp2Out(leaving, out, move.bytes);
    if (move.kind === 'end' && move.bytes.length === 0) return await endInOrder([client, server], clock);
    server.abort();
    if (move.kind === 'broken' || move.kind === 'cut') return client.abort(move.failure);
    const message = 'The program agreed on HTTP/2, and does not begin it';
    client.abort(this.#refuse('protocol_error', message));
  }

  /** What is waited for while it is judged again like a connection that is open. */
  async #watched<T>(what: Promise<T>): Promise<T | Cut> {
    const { connections, leaving } = this.#options;
    const { party, round } = leaving;
    const reconsider = (): StreamFailure | undefined => this.#findLoss(undefined);
    return await waitWatched(connections, { party, round, reconsider }, what);
  }

  #findLoss(http: DecisionHttpRequest | undefined): StreamFailure | undefined {
    const { findLoss, leaving, requests } = this.#options;
    return findLoss(leaving, requests.encounter) ?? requests.findLoss(http);
  }

  /** Of what goes on within. */
  #refuse(reason: Refusal['reason'], message: string): StreamFailure {
    const { judge, requests } = this.#options;
    return failureOf(judge.refuse(requests.encounter, { reason, message }));
  }

  #deny(refusal: Refusal): void {
    const { judge, leaving, requests } = this.#options;
    leaving.deny(failureOf(judge.refuse(requests.connection, refusal)));
  }

  /** The server that has proven itself is there from the start, and no other one is called in its place. */
  #out(client: ByteStream, application: ByteStream): RequestsOut {
    const { judge, connections, turns, clock, requests } = this.#options;
    return {
      judge,
      connections,
      turns,
      clock,
      client,
      application,
      endsIdle: true,
      decide: (http: DecisionHttpRequest) => requests.decide(http),
      refuse: (refusal) => judge.refuse(requests.encounter, refusal),
      findLoss: (http) => this.#findLoss(http),
    };
  }
}
