import { toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Watched } from '../../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { Directory, DirectoryAnswer } from '../../directory/directory.ts';
import type { HeldSvid, WorkloadIdentity } from '../../identity/identity.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { Members } from '../../services/services.ts';
import type { UserParties } from '../../subordinate-users/subordinate-users.ts';
import type { ProcessIdentifier, ProcessIdentity } from '../../workload-attestation/process-identity.ts';
import type { Arrival } from '../inbound/arrival.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { OpenConnections } from '../connections/connections.ts';
import { findHoldOfNobody, findValidSvid } from './caller-holds.ts';
import { encounterOf, type Departure } from './departure.ts';
import { failureOf } from '../judge/judgement-failure.ts';
import type { Judge, Judgement, Refusal } from '../judge/judge.ts';
import { leavingOfDeparture } from '../outside/leaving.ts';
import type { MeshCaller, MeshDialer } from '../mesh/mesh.ts';
import { refusalOf, type Way } from '../mesh/way.ts';
import type { Outside } from '../outside/outside.ts';
import { ServiceCall, type ServiceCallOptions } from './service-call.ts';
import { splice } from '../streams/splice.ts';
import { UserPlace } from '../connections/user-place.ts';
import type { Traces } from '../../traces/traces.ts';
import { whyUnidentified } from './why-unidentified.ts';

export interface OutboundOptions {
  readonly judge: Judge;
  readonly directory: Directory;
  /** Which member of a service in several places takes a connection. */
  readonly members: Members;
  readonly processes: ProcessIdentifier;
  readonly identities: Watched<ReadonlyMap<string, WorkloadIdentity>>;
  readonly dialer: MeshDialer;
  readonly outside: Outside;
  readonly connections: OpenConnections;
  /** Whose places are counted together. */
  readonly userParties: UserParties;
  /** Takes what goes to a listener of this same host. */
  readonly receiveLocal: (arrival: Arrival) => Promise<void>;
  readonly clock: Clock;
  /** Unless given, nothing is traced. */
  readonly traces?: Traces | undefined;
}

/** Whose connection it is, and where it goes. */
export interface OutboundRequest extends InNamespace {
  /** The program's own address. */
  readonly client: SocketAddress;
  /** The address that the program connected to. */
  readonly dialled: SocketAddress;
  /** Where it wants to go: what it connected to, unless that was a forward. */
  readonly destination: SocketAddress;
}

type MeshAnswer = Extract<DirectoryAnswer, { readonly kind: 'remote' }>;

/**
 * The calling side: finds out whose connection it is and who must answer, and takes it there: through the mesh, to a listener of this host, or out
 * of the mesh where the policy has it so. To a meshed host nothing ever goes in plaintext.
 */
export class Outbound {
  readonly #options: OutboundOptions;
  readonly #serviceCall: ServiceCallOptions;

  constructor(options: OutboundOptions) {
    this.#options = options;
    this.#serviceCall = {
      ...options,
      localArrival: (departure, target) => this.#localArrival(departure, target),
      carry: (departure, way, onEnd) => this.#carry(departure, way, onEnd),
      refuse: (departure, target, refusal) => this.#refuse(departure, target, refusal),
    };
  }

  /** Sees a connection through. Never rejects. */
  async handle(stream: ByteStream, request: OutboundRequest): Promise<void> {
    const { client, destination, namespace } = request;
    const { connections, userParties, judge, traces } = this.#options;
    const connectionId = judge.newId();
    const passage = traces?.beginPassage({ connectionId, side: 'calling', isNamedByCaller: false });
    const { round } = connections;
    const place = new UserPlace(connections, { userParties, namespace });
    const arrived = {
      stream,
      source: client,
      destination,
      namespace,
      connectionId,
      passage,
      round,
      ...UNKNOWN,
    };
    try {
      const known = await this.#identify(request, place);
      if (!place.isTaken) return this.#turnAway({ ...arrived, ...known });
      await this.#depart({ ...arrived, ...known, party: place.party });
    } catch (error) {
      this.#refuse(arrived, null, { reason: 'target_unreachable', message: toPicketError(error).message });
    } finally {
      place.leave();
    }
  }

  async #identify(
    { client, dialled, namespace }: OutboundRequest,
    place: UserPlace,
  ): Promise<Pick<Departure, 'svid' | 'identity' | 'process'>> {
    const admit = (uid: number): boolean => place.enter(uid);
    const identity = await this.#options.processes.identifyCaller(client, dialled, { admit, namespace });
    if (identity.kind === 'unidentified' && identity.why === 'no_holder') place.enter(null);
    const svid = identity.kind === 'identified' ? this.#findSvid(identity.spiffeId) : null;
    const { pid, uid } = identity;
    return { identity, svid, process: { pid, uid } };
  }

  async #depart(departure: Departure): Promise<void> {
    const found = this.#options.directory.find(departure.destination, departure);
    // Who is in quarantine has no certificate at some time; he must not be let through as nobody.
    const hold = this.#findHoldOfNobody(departure);
    if (hold !== undefined) return this.#refuse(departure, null, hold);
    switch (found.kind) {
      case 'remote':
        return await this.#callMesh(departure, found);
      case 'local':
        // Decided once, and traced where that is done.
        departure.passage?.drop();
        return await this.#options.receiveLocal(this.#localArrival(departure, found.spiffeId));
      case 'service':
        return await new ServiceCall(this.#serviceCall, { departure, service: found }).run();
      case 'unregistered':
        return this.#refuse(departure, null, { reason: 'target_unknown' });
      case 'outside':
        return await this.#options.outside.leave(
          leavingOfDeparture(departure, () => this.#findLoss(departure)),
        );
    }
  }

  async #callMesh(
    departure: Departure,
    { spiffeId: target, transport }: Pick<MeshAnswer, 'spiffeId' | 'transport'>,
  ): Promise<void> {
    const { judge, dialer } = this.#options;
    const { svid, connectionId, source, destination, stream } = departure;
    const encounter = encounterOf(departure, target);
    const hold = judge.findHold(encounter);
    if (hold !== undefined) return this.#refuse(departure, target, hold);
    if (svid === null)
      return this.#refuse(departure, target, {
        reason: 'caller_unidentified',
        message: whyUnidentified(departure.identity),
      });
    const verdict = judge.evaluateEgress(encounter, connectionId, 'mesh');
    if (!verdict.isAllowed || verdict.wouldDeny !== undefined) {
      const judgement = judge.record(encounter, { decisionId: connectionId, verdict }, null);
      if (!judgement.verdict.isAllowed) return this.#end(stream, judgement);
    }
    const request = { caller: svid, target, destination, source, connectionId };
    departure.passage?.asks(destination);
    const outcome = await dialer.open(transport === undefined ? request : { ...request, transport });
    if (outcome.kind !== 'accepted') return this.#refuse(departure, target, refusalOf(outcome));
    const { stream: far, peerSerial, use, leave } = outcome;
    const way = { target, far, peerSerial, use, leave };
    // A certificate of a quarantined node may answer at the address of another.
    const peerHold = judge.findHold(encounterOf(departure, target, peerSerial));
    if (peerHold === undefined) return this.#carry(departure, way);
    far.abort();
    this.#refuse(departure, target, peerHold);
  }

  #carry(departure: Departure, way: Way, onEnd = (): void => undefined): void {
    const { stream, passage } = departure;
    const { far, target } = way;
    passage?.opened(encounterOf(departure, target), way.use);
    const connection = {
      party: departure.party,
      reconsider: () => this.#reconsider(departure, way),
      cut: () => stream.abort(),
      close: (failure: StreamFailure) => far.abort(failure),
      retire: way.leave,
    };
    const forget = this.#options.connections.add(connection, departure.round);
    if (forget === undefined) return onEnd();
    splice(stream, far, (failure) => {
      forget();
      onEnd();
      // The other host took its permit back: the process that asked is to be told.
      if (failure?.reason !== undefined) this.#noteDenial(departure, target, failure);
      passage?.end(failure);
    });
    stream.resume();
    far.resume();
  }

  #reconsider(departure: Departure, way: Way): StreamFailure | undefined {
    const { directory, judge } = this.#options;
    const { target } = way;
    const encounter = encounterOf(departure, target, way.peerSerial);
    const loss = judge.findHold(encounter) ?? this.#findLoss(departure);
    if (loss !== undefined) return failureOf(judge.refuse(encounter, loss));
    if (!leadsTo(directory, departure, target))
      return failureOf(judge.refuse(encounter, { reason: 'target_unknown' }));
    const decisionId = judge.newId();
    const verdict = judge.evaluateEgress(encounter, decisionId, 'mesh');
    return verdict.isAllowed ? undefined : failureOf(judge.record(encounter, { decisionId, verdict }, null));
  }

  #findHoldOfNobody(departure: Departure): Refusal | undefined {
    const { svid, identity } = departure;
    if (svid !== null) return undefined;
    return findHoldOfNobody(this.#options.judge, encounterOf(departure, null), identity);
  }

  #findLoss(departure: Departure): Refusal | undefined {
    const { svid, namespace } = departure;
    if (namespace?.isClosed === true)
      return {
        reason: 'caller_unidentified',
        message: `The namespace ${namespace.name} is not captured any more`,
      };
    if (svid === null) return this.#findHoldOfNobody(departure);
    if (this.#findSvid(svid.spiffeId) !== null) return undefined;
    return { reason: 'caller_unidentified', message: 'The identity was withdrawn' };
  }

  /** Between workloads of this host: decided with both identities, without TLS. */
  #localArrival(departure: Departure, target: SpiffeId): Arrival {
    const { stream, source, destination, namespace, connectionId, svid, process } = departure;
    return {
      connectionId,
      caller: svid === null ? null : callerOf(svid),
      source,
      target,
      destination,
      isLocal: true,
      namespace,
      endsAtMs: Infinity,
      process,
      findLoss: () => this.#findLoss(departure),
      onLeaving: () => undefined,
      accept: () => stream,
      deny: (denial) => stream.abort(denial),
    };
  }

  #noteDenial(departure: Departure, target: SpiffeId | null, failure: StreamFailure): void {
    const { reason, decisionId, message } = failure;
    if (reason === undefined || reason === 'policy_allow') return;
    const known = decisionId === undefined ? {} : { decisionId };
    this.#options.judge.refuse(encounterOf(departure, target), { reason, message, isTold: true, ...known });
  }

  #refuse(departure: Omit<Departure, 'party'>, target: SpiffeId | null, refusal: Refusal): void {
    const known = { decisionId: departure.connectionId, ...refusal };
    this.#end(departure.stream, this.#options.judge.refuse(encounterOf(departure, target), known));
  }

  /** Without a span: who finds no place must not fill the queue of spans instead. */
  #turnAway(departure: Omit<Departure, 'party'>): void {
    departure.passage?.drop();
    this.#refuse(departure, null, { reason: 'overloaded' });
  }

  #end(stream: ByteStream, judgement: Judgement): void {
    stream.abort(failureOf(judgement));
  }

  #findSvid(spiffeId: SpiffeId): HeldSvid | null {
    const { identities, clock } = this.#options;
    return findValidSvid(identities, spiffeId, clock.nowMs());
  }
}

const NOBODY: ProcessIdentity = { kind: 'unidentified', why: 'no_holder', pid: null, uid: null };

const UNKNOWN = { svid: null, identity: NOBODY, process: null };

function callerOf(svid: HeldSvid): MeshCaller | null {
  const [leaf] = svid.chain;
  return leaf === undefined ? null : { spiffeId: svid.spiffeId, notAfterMs: svid.notAfterMs, leaf };
}

/** Whether the way that a connection took is still one by registration. */
function leadsTo(directory: Directory, departure: Departure, target: SpiffeId): boolean {
  const { destination, member } = departure;
  const found = directory.find(destination, departure);
  if (found.kind === 'remote') return found.spiffeId === target;
  if (found.kind !== 'service' || found.spiffeId !== target || member === undefined) return false;
  return found.members.some(({ address, port }) => address === member.address && port === member.port);
}
