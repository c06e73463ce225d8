import { PicketError } from '../../../shared/errors/errors.ts';
import type { DecisionHttpRequest, Verdict } from '../../../shared/policy/decision.ts';
import type { EgressTerms } from '../../../shared/policy/egress-terms.ts';
import type { Directory } from '../../directory/directory.ts';
import type { DomainCheck } from '../../egress/domain-check.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { ChosenTerms } from './chosen-terms.ts';
import { awaitClientWords, type ClientWords } from '../first-words/client-words.ts';
import type { OpenConnections } from '../connections/connections.ts';
import type { FairTurns } from '../connections/fair-turns.ts';
import { Exits, type Exit, type ExitsOptions } from './exits.ts';
import { failureOf } from '../judge/judgement-failure.ts';
import { InspectedWay } from './inspected-way.ts';
import type { Inspector } from './inspector.ts';
import type { Leaving } from './leaving.ts';
import { explainedByName, nameTarget, RequestNames } from './outside-names.ts';
import { relayHttp1Out } from './requests-out.ts';
import type { Encounter, Judge, Judgement, Refusal } from '../judge/judge.ts';
import type { Traces } from '../../traces/traces.ts';
import { splice } from '../streams/splice.ts';
import { waitWatched, type Cut } from '../connections/watched-wait.ts';

export interface OutsideOptions extends ExitsOptions {
  readonly judge: Judge;
  readonly directory: Directory;
  readonly connections: OpenConnections;
  readonly turns: FairTurns;
  readonly domains: DomainCheck;
  /** Ends the TLS of what the policy wants inspected; undefined: this host cannot. */
  readonly inspector?: Inspector | undefined;
  /** Unless given, nothing is traced. */
  readonly traces?: Traces | undefined;
}

/** How long a client may take to say whom it wants, where the policy does not allow the address as such. */
const WORDS_MS = 10_000;
const NO_BYTES = new Uint8Array(0);

/**
 * The way out of the mesh, where the policy's egress rule has it so: by address, and then nothing is waited for; or by the name that the client asks for in a
 * ClientHello or in each request. A name counts only if it leads to the address, by the resolvers of this host and not by the client's word. The same on a program's host and
 * on the gateway that the policy sends it through: each decides for itself, and whoever dials the server has it prove the certificate that the policy asks for, and inspects what
 * it wants inspected.
 */
export class Outside {
  readonly #options: OutsideOptions;
  readonly #exits: Exits;
  readonly #inspected: InspectedWay;

  constructor(options: OutsideOptions) {
    this.#options = options;
    this.#exits = new Exits(options);
    this.#inspected = new InspectedWay({
      ...options,
      inspector: options.inspector,
      findLoss: (leaving, encounter) => this.#findLossHere(encounter) ?? this.#findLoss(leaving, encounter),
    });
  }

  /** Sees a connection out of the mesh. */
  async leave(leaving: Leaving): Promise<void> {
    const { judge } = this.#options;
    const { encounter, connectionId: decisionId } = leaving;
    const verdict = judge.evaluateEgress(encounter, decisionId, 'outside');
    const judgement = { decisionId, verdict };
    if (this.#wantsWords(judgement)) return await this.#leaveByWords(leaving, judgement);
    await this.#settle(leaving, { encounter, judgement, first: NO_BYTES });
  }

  /** Whether what the client says first may change the verdict. */
  #wantsWords({ verdict }: Judgement): boolean {
    const { isAllowed, reason } = verdict;
    if (isAllowed) return false;
    const wantsTls = reason === 'certificate_refused' || reason === 'inspection_refused';
    return wantsTls || (reason === 'egress_deny' && this.#options.judge.asksForDomain);
  }

  async #leaveByWords(leaving: Leaving, byAddress: Judgement): Promise<void> {
    const words = await this.#listen(leaving);
    if (words.kind === 'tls') return await this.#leaveByServerName(leaving, words);
    if (words.kind === 'http1') return await this.#leaveByRequests(leaving, words);
    if (words.kind === 'cut') return leaving.deny(words.failure);
    end(leaving, this.#options.judge.record(leaving.encounter, byAddress, null));
  }

  /** A silent connection is judged again like any other, but for the policy, which decides once something comes. */
  async #listen(leaving: Leaving): Promise<ClientWords | Cut> {
    const { connections, clock } = this.#options;
    const { party, round, encounter } = leaving;
    const watched = { party, round, reconsider: () => this.#findLoss(leaving, encounter) };
    const words = awaitClientWords(leaving.accept(), { clock, withinMs: WORDS_MS });
    return await waitWatched(connections, watched, words);
  }

  /** TLS passes as it is, unless it is to be inspected. */
  async #leaveByServerName(
    leaving: Leaving,
    { tls, bytes }: Extract<ClientWords, { kind: 'tls' }>,
  ): Promise<void> {
    const { judge } = this.#options;
    const encounter = { ...leaving.encounter, tls };
    const named = await nameTarget({ ...this.#options, encounter, host: tls.serverName, http: null });
    const decisionId = leaving.connectionId;
    const verdict = explainedByName(judge.evaluateEgress(named ?? encounter, decisionId, 'outside'), {
      judge,
      encounter,
      host: tls.serverName,
      http: null,
    });
    if (named === undefined && !verdict.isAllowed)
      return end(leaving, judge.refuse(encounter, { reason: 'domain_unverified', decisionId }));
    const judgement = { decisionId, verdict };
    await this.#settle(leaving, { encounter: named ?? encounter, judgement, first: bytes });
  }

  async #leaveByRequests(leaving: Leaving, words: Extract<ClientWords, { kind: 'http1' }>): Promise<void> {
    const { judge, connections, turns, clock } = this.#options;
    const terms = new ChosenTerms();
    const plain = leaving.encounter;
    // From now on each request has a span.
    plain.passage?.drop();
    const { connectionId } = leaving;
    const hold = (verdict: Verdict): Verdict => terms.hold(verdict);
    const names = new RequestNames({ ...this.#options, plain, connectionId, hold });
    if (words.head !== undefined) await names.learn(words.head);
    let exit: Pick<Exit, 'encounter' | 'findLoss'> = { encounter: plain };
    let unopened: Refusal | undefined;
    const requests = {
      judge,
      connections,
      turns,
      clock,
      client: leaving.accept(),
      application: async () => {
        const found = await this.#exits.open(leaving, plain, terms.current);
        if ('refusal' in found) throw unopenedError((unopened = found.refusal));
        exit = found;
        return found.far;
      },
      decide: (http: DecisionHttpRequest) => names.judge(http),
      refuse: (refusal: Refusal) => judge.refuse(withVia(plain, terms.current), { ...refusal, ...unopened }),
      findLoss: (http: DecisionHttpRequest | undefined) =>
        this.#reconsider(leaving, withProof(names.encounterOf(http), exit.encounter), { terms, http, exit }),
    };
    relayHttp1Out(leaving, requests, words.bytes);
  }

  /** What is decided as a whole: records it, and carries what is allowed. */
  async #settle(
    leaving: Leaving,
    {
      encounter,
      judgement,
      first,
    }: { readonly encounter: Encounter; readonly judgement: Judgement; readonly first: Uint8Array },
  ): Promise<void> {
    const { judge } = this.#options;
    const { decisionId, verdict } = judgement;
    const refusal = verdict.isAllowed ? await this.#exits.findObstacle(encounter, verdict.terms) : undefined;
    if (refusal === undefined && this.#inspects(encounter, verdict))
      return await this.#inspected.leave(leaving, { encounter, judgement, first });
    const recorded =
      refusal === undefined
        ? judge.record(encounter, judgement, null)
        : judge.refuse(withVia(encounter, verdict.terms), { ...refusal, decisionId });
    if (!recorded.verdict.isAllowed) return end(leaving, recorded);
    const terms = new ChosenTerms();
    terms.hold(verdict);
    await this.#carry(leaving, { encounter, terms, first });
  }

  async #carry(
    leaving: Leaving,
    {
      encounter,
      terms,
      first,
    }: { readonly encounter: Encounter; readonly terms: ChosenTerms; readonly first: Uint8Array },
  ): Promise<void> {
    const exit = await this.#dial(leaving, encounter, terms.current);
    if (exit === undefined) return;
    const { far } = exit;
    const near = leaving.accept();
    const connection = {
      party: leaving.party,
      reconsider: () => this.#reconsider(leaving, exit.encounter, { terms, http: null, exit }),
      cut: (failure: StreamFailure) => {
        near.abort(failure);
        far.abort(failure);
      },
      ...(exit.leave === undefined ? {} : { retire: exit.leave }),
    };
    const forget = this.#options.connections.add(connection, leaving.round);
    if (forget === undefined) return;
    if (first.length > 0) far.write(first);
    splice(near, far, (failure) => {
      forget();
      // A gateway has refused it: whoever asked is to be told.
      if (this.#exits.isElsewhere(exit.encounter, terms.current)) this.#noteDenial(exit.encounter, failure);
      encounter.passage?.end(failure);
    });
    near.resume();
    far.resume();
  }

  async #dial(
    leaving: Leaving,
    encounter: Encounter,
    terms: EgressTerms | undefined,
  ): Promise<Exit | undefined> {
    const found = await this.#exits.open(leaving, encounter, terms);
    if (!('refusal' in found)) return found;
    end(leaving, this.#options.judge.refuse(withVia(encounter, terms), found.refusal));
    return undefined;
  }

  /** Whoever dials the server inspects. */
  #inspects(encounter: Encounter, { isAllowed, terms }: Verdict): boolean {
    return isAllowed && terms?.isInspected === true && !this.#exits.isElsewhere(encounter, terms);
  }

  /** `http` is null for a connection, and undefined where no request is under way. */
  #reconsider(
    leaving: Leaving,
    encounter: Encounter,
    {
      terms,
      http,
      exit,
    }: {
      readonly terms: ChosenTerms;
      readonly http: DecisionHttpRequest | null | undefined;
      readonly exit: Pick<Exit, 'findLoss'>;
    },
  ): StreamFailure | undefined {
    const { judge } = this.#options;
    const asked = withVia(encounter, terms.current);
    const closed = exit.findLoss?.();
    if (closed !== undefined) return failureOf(judge.refuse(asked, closed));
    const loss = this.#findLoss(leaving, asked);
    if (loss !== undefined || http === undefined) return loss;
    const decisionId = judge.newId();
    const verdict = terms.hold(judge.evaluateEgress(encounter, decisionId, 'outside', http));
    return verdict.isAllowed ? undefined : failureOf(judge.record(encounter, { decisionId, verdict }, http));
  }

  #findLossHere(encounter: Encounter): StreamFailure | undefined {
    const loss = this.#exits.findLossHere(encounter.direction, encounter.via);
    return loss === undefined ? undefined : failureOf(this.#options.judge.refuse(encounter, loss));
  }

  #findLoss(leaving: Leaving, encounter: Encounter): StreamFailure | undefined {
    const { judge, directory } = this.#options;
    const loss = judge.findHold(encounter) ?? leaving.findLoss();
    if (loss !== undefined) return failureOf(judge.refuse(encounter, loss));
    // An address that has become one of the mesh is never again called in plaintext.
    if (directory.find(leaving.destination).kind === 'outside') return undefined;
    return failureOf(judge.refuse(encounter, { reason: 'target_unknown' }));
  }

  #noteDenial(encounter: Encounter, failure: StreamFailure | undefined): void {
    if (failure?.reason === undefined || failure.reason === 'policy_allow') return;
    const { reason, decisionId, message } = failure;
    const known = decisionId === undefined ? {} : { decisionId };
    this.#options.judge.refuse(encounter, { reason, message, isTold: true, ...known });
  }
}

function unopenedError({ reason, message }: Refusal): PicketError {
  return new PicketError('unavailable', reason, message ?? reason);
}

/** With the certificate by which the gateway proved itself. */
function withProof(encounter: Encounter, { target: { certificateSerial } }: Encounter): Encounter {
  if (certificateSerial === undefined) return encounter;
  return { ...encounter, target: { ...encounter.target, certificateSerial } };
}

function withVia(encounter: Encounter, terms: EgressTerms | undefined): Encounter {
  return terms?.via === undefined ? encounter : { ...encounter, via: terms.via };
}

function end(leaving: Leaving, judgement: Judgement): void {
  leaving.deny(failureOf(judgement));
}
