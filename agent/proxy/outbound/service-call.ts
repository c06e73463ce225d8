import type { Clock } from '../../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { Directory } from '../../directory/directory.ts';
import type { FoundService, Member } from '../../directory/service-index.ts';
import type { MemberFailure, Members } from '../../services/services.ts';
import type { Arrival } from '../inbound/arrival.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { encounterOf, type Departure } from './departure.ts';
import { failureOf } from '../judge/judgement-failure.ts';
import type { Judge, Refusal } from '../judge/judge.ts';
import type { MeshDialer, MeshOutcome } from '../mesh/mesh.ts';
import { refusalOf, type Way } from '../mesh/way.ts';
import { whyUnidentified } from './why-unidentified.ts';

export interface ServiceCallOptions {
  readonly judge: Judge;
  readonly directory: Directory;
  readonly members: Members;
  readonly dialer: MeshDialer;
  readonly clock: Clock;
  readonly receiveLocal: (arrival: Arrival) => Promise<void>;
  /** A departure to a listener of this host as it arrives there. */
  readonly localArrival: (departure: Departure, target: SpiffeId) => Arrival;
  /** Carries an accepted connection; `onEnd` is called once when it is over. */
  readonly carry: (departure: Departure, way: Way, onEnd: () => void) => void;
  /** Records a refusal and ends the connection. */
  readonly refuse: (departure: Departure, target: SpiffeId, refusal: Refusal) => void;
}

/** What became of an attempt: `missed` is one that another member may take, `ended` one that is recorded already. */
type Attempt =
  | { readonly kind: 'taken' }
  | { readonly kind: 'missed'; readonly refusal: Refusal; readonly failure?: MemberFailure | undefined }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'ended'; readonly failure: StreamFailure };

/** Members that are tried for one connection. */
export const MAX_TRIED = 5;
/** For how long another member is tried, in milliseconds. */
const TRY_MS = 15_000;
/** For connecting, and again for the answer, as long as there is another member to go to. */
const PATIENCE_MS = 3000;

/**
 * What speaks of the member and not of the caller, said before a byte was let through: another member may be asked. A denial by the policy is not among them: to ask on until
 * somebody allows it would be to look for the weakest. Undefined: no reason to keep others away from the member.
 */
const OF_THE_MEMBER: ReadonlyMap<Refusal['reason'], MemberFailure | undefined> = new Map([
  ['target_unreachable', 'unreachable'],
  ['target_untrusted', 'untrusted'],
  ['protocol_error', 'unreachable'],
  ['application_unreachable', 'refused'],
  ['listener_unidentified', 'refused'],
  ['listener_not_registered', 'refused'],
  ['audit_unavailable', 'refused'],
  // Said to one who alone has too much open, too: he could have a member ejected for all others of his host.
  ['overloaded', undefined],
  // The other host may have heard of it before us.
  ['quarantined', undefined],
]);

/**
 * One connection to a service in several places: tried at one member after another, until one has accepted it. Nothing of it was delivered until then; after
 * that nothing is tried again.
 */
export class ServiceCall {
  readonly #options: ServiceCallOptions;
  readonly #departure: Departure;
  readonly #service: FoundService;
  readonly #tried = new Set<Member>();
  #isPolicyAsked = false;

  constructor(
    options: ServiceCallOptions,
    { departure, service }: { readonly departure: Departure; readonly service: FoundService },
  ) {
    this.#options = options;
    this.#departure = departure;
    this.#service = service;
  }

  /** Sees the connection through. */
  async run(): Promise<void> {
    const { clock, judge, members, refuse } = this.#options;
    const { spiffeId, name } = this.#service;
    const hold = judge.findHold(encounterOf(this.#departure, spiffeId));
    if (hold !== undefined) return refuse(this.#departure, spiffeId, hold);
    const endMs = clock.monotonicMs() + TRY_MS;
    let departure = this.#departure;
    let refusal: Refusal = { reason: 'target_unreachable', message: `The service ${name} has no member` };
    while (this.#tried.size < MAX_TRIED && clock.monotonicMs() < endMs) {
      const member = members.pick(this.#service, this.#tried);
      if (member === undefined) break;
      this.#tried.add(member);
      departure = { ...this.#departure, member };
      const attempt = await this.#attempt(departure, member);
      if (attempt.kind === 'taken') return;
      if (attempt.kind === 'ended') return departure.stream.abort(attempt.failure);
      if (attempt.kind === 'refused') return refuse(departure, spiffeId, attempt.refusal);
      refusal = attempt.refusal;
      if (attempt.failure === undefined) continue;
      const { reason, message = reason } = refusal;
      members.failed(this.#service, member, { failure: attempt.failure, message });
    }
    refuse(departure, spiffeId, this.#summarize(refusal));
  }

  async #attempt(departure: Departure, member: Member): Promise<Attempt> {
    const { directory, judge } = this.#options;
    const { spiffeId } = this.#service;
    const hold = judge.findHold(encounterOf(departure, spiffeId));
    if (hold !== undefined) return { kind: 'missed', refusal: hold };
    const found = directory.find(member);
    if (found.kind === 'local' && found.spiffeId === spiffeId) return await this.#callHere(departure, member);
    if (found.kind === 'remote' && found.spiffeId === spiffeId)
      return await this.#callMesh(departure, member);
    // Gone while others were tried.
    return { kind: 'missed', refusal: { reason: 'target_unknown' } };
  }

  async #callMesh(departure: Departure, member: Member): Promise<Attempt> {
    const { dialer } = this.#options;
    const { svid, source, connectionId, identity } = departure;
    if (svid === null)
      return {
        kind: 'refused',
        refusal: { reason: 'caller_unidentified', message: whyUnidentified(identity) },
      };
    const denial = this.#askPolicy(departure);
    if (denial !== undefined) return { kind: 'ended', failure: denial };
    departure.passage?.asks(member);
    const outcome = await dialer.open({
      caller: svid,
      target: this.#service.spiffeId,
      destination: member,
      source,
      connectionId,
      ...(this.#isLast ? {} : { patienceMs: PATIENCE_MS }),
    });
    if (outcome.kind === 'accepted') return this.#accepted(departure, member, outcome);
    if (outcome.kind === 'failed' && outcome.reason === 'caller_untrusted')
      // It was not even asked, or not in vain: nothing is known of it.
      return { kind: 'refused', refusal: refusalOf(outcome) };
    return this.#missed(member, refusalOf(outcome));
  }

  #accepted(
    departure: Departure,
    member: Member,
    { stream, peerSerial, use, leave }: Extract<MeshOutcome, { readonly kind: 'accepted' }>,
  ): Attempt {
    const { judge, members, carry } = this.#options;
    const way = { target: this.#service.spiffeId, far: stream, peerSerial, use, leave };
    // A certificate of a quarantined node may answer at the address of another.
    const hold = judge.findHold(encounterOf(departure, way.target, peerSerial));
    if (hold === undefined) {
      carry(departure, way, members.taken(this.#service, member));
      return { kind: 'taken' };
    }
    stream.abort();
    const { reason, message = reason } = hold;
    members.failed(this.#service, member, { failure: 'untrusted', message });
    return { kind: 'refused', refusal: hold };
  }

  /** A member on this very host: decided as any connection to it, without TLS. */
  async #callHere(departure: Departure, member: Member): Promise<Attempt> {
    const { receiveLocal, localArrival, members } = this.#options;
    const { address, port } = member;
    const arrival = localArrival({ ...departure, destination: { address, port } }, this.#service.spiffeId);
    let denial: StreamFailure | undefined;
    const deny = (told: StreamFailure): void => void (denial = told);
    const accept = (): Way['far'] => {
      members.taken(this.#service, member)();
      return arrival.accept();
    };
    await receiveLocal({ ...arrival, accept, deny });
    if (denial === undefined) {
      // Decided and traced as what came to this host.
      departure.passage?.drop();
      return { kind: 'taken' };
    }
    const { reason = 'target_unreachable', message } = denial;
    const attempt = this.#missed(member, {
      reason: reason === 'policy_allow' ? 'protocol_error' : reason,
      message,
    });
    // It was recorded where it was decided.
    return attempt.kind === 'refused' ? { kind: 'ended', failure: denial } : attempt;
  }

  #missed(member: Member, refusal: Refusal): Attempt {
    const { reason } = refusal;
    if (OF_THE_MEMBER.has(reason)) return { kind: 'missed', refusal, failure: OF_THE_MEMBER.get(reason) };
    this.#options.members.answered(this.#service, member);
    return { kind: 'refused', refusal };
  }

  /** The calling side's rule is asked once, for what the program asked for. */
  #askPolicy(departure: Departure): StreamFailure | undefined {
    if (this.#isPolicyAsked) return undefined;
    this.#isPolicyAsked = true;
    const { judge } = this.#options;
    const { connectionId } = departure;
    const encounter = encounterOf(departure, this.#service.spiffeId);
    const verdict = judge.evaluateEgress(encounter, connectionId, 'mesh');
    if (verdict.isAllowed && verdict.wouldDeny === undefined) return undefined;
    const judgement = judge.record(encounter, { decisionId: connectionId, verdict }, null);
    return judgement.verdict.isAllowed ? undefined : failureOf(judgement);
  }

  get #isLast(): boolean {
    return this.#tried.size >= Math.min(MAX_TRIED, this.#service.members.length);
  }

  /** Nobody took it: the last failure stands for all. */
  #summarize(refusal: Refusal): Refusal {
    const { size } = this.#tried;
    if (size < 2) return refusal;
    const { reason, message = reason } = refusal;
    return {
      ...refusal,
      message: `None of ${size} members of ${this.#service.name} took it; the last: ${message}`,
    };
  }
}
