import { toPicketError } from '../../shared/errors/errors.ts';
import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Directory } from '../directory/directory.ts';
import type { DomainCheck } from '../egress/domain-check.ts';
import type { ByteStream, StreamFailure } from './byte-stream.ts';
import { awaitClientWords, type ClientWords } from './client-words.ts';
import type { OpenConnections } from './connections.ts';
import { encounterOf, type Departure } from './departure.ts';
import { failureOf } from './judgement-failure.ts';
import { Http1Relay } from './http1-relay.ts';
import { nameTarget, RequestNames } from './outside-names.ts';
import type { Encounter, Judge, Judgement, Refusal } from './judge.ts';
import { splice } from './splice.ts';
import { dialTcp } from './tcp-stream.ts';
import { waitWatched, type Cut } from './watched-wait.ts';

export interface OutsideOptions {
  readonly judge: Judge;
  readonly directory: Directory;
  readonly connections: OpenConnections;
  readonly domains: DomainCheck;
  /** Why a departure has lost what it was permitted by, besides the policy. */
  readonly findLoss: (departure: Departure) => Refusal | undefined;
  /** Of the connections that leave the mesh. */
  readonly mark: number;
  readonly clock: Clock;
}

const DIAL_MS = 10_000;
/** How long a client may take to say whom it wants, where the policy does not allow the address as such. */
const WORDS_MS = 10_000;
const NO_BYTES = new Uint8Array(0);

/**
 * The way out of the mesh, where the policy's egress rule has it so: by address, and then nothing is waited for; or by the name that the client asks for in a
 * ClientHello or in each request. A name counts only if it leads to the address, by the resolvers of this host and not by the client's word.
 */
export class Outside {
  readonly #options: OutsideOptions;

  constructor(options: OutsideOptions) {
    this.#options = options;
  }

  /** Sees a connection out of the mesh. */
  async leave(departure: Departure): Promise<void> {
    const { judge } = this.#options;
    const encounter = encounterOf(departure, null);
    const decisionId = departure.connectionId;
    const verdict = judge.evaluateEgress(encounter, decisionId, 'outside');
    if (!verdict.isAllowed && verdict.reason === 'egress_deny' && judge.asksForDomain)
      return await this.#leaveByName(departure, { decisionId, verdict });
    const judgement = judge.record(encounter, { decisionId, verdict }, null);
    if (judgement.verdict.isAllowed) await this.#carry(departure, encounter, NO_BYTES);
    else end(departure, judgement);
  }

  async #leaveByName(departure: Departure, byAddress: Judgement): Promise<void> {
    const words = await this.#listen(departure);
    if (words.kind === 'tls') return await this.#leaveByServerName(departure, words);
    if (words.kind === 'http1') {
      const names = new RequestNames({ ...this.#options, plain: encounterOf(departure, null) });
      if (words.head !== undefined) await names.learn(words.head);
      return this.#leaveByRequests(departure, words, names);
    }
    if (words.kind === 'cut') return departure.stream.abort(words.failure);
    end(departure, this.#options.judge.record(encounterOf(departure, null), byAddress, null));
  }

  /** A silent connection is judged again like any other, but for the policy, which decides once something comes. */
  async #listen(departure: Departure): Promise<ClientWords | Cut> {
    const { connections, clock } = this.#options;
    const { party, round } = departure;
    const reconsider = (): StreamFailure | undefined =>
      this.#findLoss(departure, encounterOf(departure, null));
    const words = awaitClientWords(departure.stream, { clock, withinMs: WORDS_MS });
    return await waitWatched(connections, { party, round, reconsider }, words);
  }

  async #leaveByServerName(
    departure: Departure,
    { tls, bytes }: Extract<ClientWords, { kind: 'tls' }>,
  ): Promise<void> {
    const { judge } = this.#options;
    const encounter = { ...encounterOf(departure, null), tls };
    const named = await nameTarget({ ...this.#options, encounter, host: tls.serverName, http: null });
    const decisionId = departure.connectionId;
    const verdict = judge.evaluateEgress(named ?? encounter, decisionId, 'outside');
    const judgement =
      named === undefined && !verdict.isAllowed
        ? judge.refuse(encounter, { reason: 'domain_unverified', decisionId })
        : judge.record(named ?? encounter, { decisionId, verdict }, null);
    if (judgement.verdict.isAllowed) await this.#carry(departure, named ?? encounter, bytes);
    else end(departure, judgement);
  }

  #leaveByRequests(
    departure: Departure,
    words: Extract<ClientWords, { kind: 'http1' }>,
    names: RequestNames,
  ): void {
    const { judge, connections, clock } = this.#options;
    const { stream } = departure;
    // What has lost its permit by now is over before it has begun.
    const place: { leave: (() => void) | undefined } = { leave: undefined };
    const relay = new Http1Relay({
      client: stream,
      openApplication: async () => await this.#connect(departure),
      judge: (http) => names.judge(http),
      refuse: (refusal) => judge.refuse(encounterOf(departure, null), refusal),
      // Who calls is nobody's business outside of the mesh.
      clientCertLine: NO_BYTES,
      clock,
      endsAtMs: Infinity,
      onDone: () => place.leave?.(),
    });
    const connection = {
      party: departure.party,
      reconsider: () => {
        const { current } = relay;
        return this.#reconsider(departure, names.encounterOf(current), current);
      },
      cut: (failure: StreamFailure) => relay.cut(failure),
    };
    place.leave = connections.add(connection, departure.round);
    if (place.leave === undefined) return;
    relay.start(words.bytes);
    stream.resume();
  }

  async #carry(departure: Departure, encounter: Encounter, first: Uint8Array): Promise<void> {
    const far = await this.#dial(departure, encounter);
    if (far === undefined) return;
    const { stream } = departure;
    const connection = {
      party: departure.party,
      reconsider: () => this.#reconsider(departure, encounter, null),
      cut: (failure: StreamFailure) => {
        stream.abort();
        far.abort(failure);
      },
    };
    const forget = this.#options.connections.add(connection, departure.round);
    if (forget === undefined) return;
    if (first.length > 0) far.write(first);
    splice(stream, far, () => forget());
    stream.resume();
    far.resume();
  }

  async #dial(departure: Departure, encounter: Encounter): Promise<ByteStream | undefined> {
    try {
      return await this.#connect(departure);
    } catch (error) {
      const { message } = toPicketError(error);
      end(departure, this.#options.judge.refuse(encounter, { reason: 'target_unreachable', message }));
      return undefined;
    }
  }

  async #connect({ destination }: Departure): Promise<ByteStream> {
    const { mark, clock } = this.#options;
    return await dialTcp({ ...destination, mark, timeoutMs: DIAL_MS, clock });
  }

  /** `http` is null for a connection, and undefined where no request is under way. */
  #reconsider(
    departure: Departure,
    encounter: Encounter,
    http: DecisionHttpRequest | null | undefined,
  ): StreamFailure | undefined {
    const { judge } = this.#options;
    const loss = this.#findLoss(departure, encounter);
    if (loss !== undefined || http === undefined) return loss;
    const decisionId = judge.newId();
    const verdict = judge.evaluateEgress(encounter, decisionId, 'outside', http);
    return verdict.isAllowed ? undefined : failureOf(judge.record(encounter, { decisionId, verdict }, http));
  }

  #findLoss(departure: Departure, encounter: Encounter): StreamFailure | undefined {
    const { judge, directory, findLoss } = this.#options;
    const loss = judge.findHold(encounter) ?? findLoss(departure);
    if (loss !== undefined) return failureOf(judge.refuse(encounter, loss));
    // An address that has become one of the mesh is never again called in plaintext.
    if (directory.find(departure.destination).kind === 'outside') return undefined;
    return failureOf(judge.refuse(encounter, { reason: 'target_unknown' }));
  }
}

function end({ stream }: Departure, judgement: Judgement): void {
  stream.abort(failureOf(judgement));
}
