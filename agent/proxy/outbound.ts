import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Directory } from '../directory/directory.ts';
import type { DomainCheck } from '../egress/domain-check.ts';
import type { HeldSvid, WorkloadIdentity } from '../identity/identity.ts';
import { isValidAt } from '../identity/svid-life.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { ProcessIdentifier, ProcessIdentity } from '../workload-attestation/process-identity.ts';
import type { Arrival } from './arrival.ts';
import type { ByteStream, StreamFailure } from './byte-stream.ts';
import type { OpenConnections } from './connections.ts';
import { encounterOf, withCaller, type Departure } from './departure.ts';
import { failureOf } from './judgement-failure.ts';
import type { Judge, Judgement, Refusal } from './judge.ts';
import type { MeshCaller, MeshDialer, MeshOutcome } from './mesh.ts';
import { Outside } from './outside.ts';
import { splice } from './splice.ts';
import { UserPlace } from './user-place.ts';
import { whyUnidentified } from './why-unidentified.ts';

export interface OutboundOptions {
  readonly judge: Judge;
  readonly directory: Directory;
  readonly processes: ProcessIdentifier;
  readonly identities: Watched<ReadonlyMap<string, WorkloadIdentity>>;
  readonly dialer: MeshDialer;
  readonly domains: DomainCheck;
  readonly connections: OpenConnections;
  /** Takes what goes to a listener of this same host. */
  readonly receiveLocal: (arrival: Arrival) => Promise<void>;
  /** Of the connections that leave the mesh. */
  readonly mark: number;
  readonly clock: Clock;
}

/** Whose connection it is, and where it goes. */
export interface OutboundRequest {
  /** The program's own address. */
  readonly client: SocketAddress;
  /** The address that the program connected to. */
  readonly dialled: SocketAddress;
  /** Where it wants to go: what it connected to, unless that was a forward. */
  readonly destination: SocketAddress;
}

/** Who answers in the mesh, and by which certificate. */
interface Way {
  readonly target: SpiffeId;
  readonly far: ByteStream;
  readonly peerSerial: string;
}

/**
 * The calling side: finds out whose connection it is and who must answer, and takes it there: through the mesh, to a listener of this host, or out
 * of the mesh where the policy has it so. To a meshed host nothing ever goes in plaintext.
 */
export class Outbound {
  readonly #options: OutboundOptions;
  readonly #outside: Outside;

  constructor(options: OutboundOptions) {
    this.#options = options;
    this.#outside = new Outside({ ...options, findLoss: (departure) => this.#findLoss(departure) });
  }

  /** Sees a connection through. Never rejects. */
  async handle(stream: ByteStream, { client, dialled, destination }: OutboundRequest): Promise<void> {
    const { connections, judge } = this.#options;
    const connectionId = judge.newId();
    const { round } = connections;
    const place = new UserPlace(connections);
    const arrived = { stream, source: client, destination, connectionId, round, ...UNKNOWN };
    try {
      const known = await this.#identify(client, dialled, place);
      if (!place.isTaken) return this.#refuse({ ...arrived, ...known }, null, { reason: 'overloaded' });
      await this.#depart({ ...arrived, ...known, party: place.party });
    } catch (error) {
      this.#refuse(arrived, null, { reason: 'target_unreachable', message: toPicketError(error).message });
    } finally {
      place.leave();
    }
  }

  async #identify(
    client: SocketAddress,
    dialled: SocketAddress,
    place: UserPlace,
  ): Promise<Pick<Departure, 'svid' | 'identity' | 'process'>> {
    const identity = await this.#options.processes.identifyCaller(client, dialled, (uid) => place.enter(uid));
    if (identity.kind === 'unidentified' && identity.why === 'no_holder') place.enter(null);
    const svid = identity.kind === 'identified' ? this.#findSvid(identity.spiffeId) : null;
    const { pid, uid } = identity;
    return { identity, svid, process: { pid, uid } };
  }

  async #depart(departure: Departure): Promise<void> {
    const found = this.#options.directory.find(departure.destination);
    // Who is in quarantine has no certificate at some time; he must not be let through as nobody.
    const hold = this.#findHoldOfNobody(departure);
    if (hold !== undefined) return this.#refuse(departure, null, hold);
    switch (found.kind) {
      case 'remote':
        return await this.#callMesh(departure, found.spiffeId);
      case 'local':
        return await this.#options.receiveLocal(this.#localArrival(departure, found.spiffeId));
      case 'unregistered':
        return this.#refuse(departure, null, { reason: 'target_unknown' });
      case 'outside':
        return await this.#outside.leave(departure);
    }
  }

  async #callMesh(departure: Departure, target: SpiffeId): Promise<void> {
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
    const outcome = await dialer.open({ caller: svid, target, destination, source, connectionId });
    if (outcome.kind !== 'accepted') return this.#refuse(departure, target, refusalOf(outcome));
    const { stream: far, peerSerial } = outcome;
    const way = { target, far, peerSerial };
    // A certificate of a quarantined node may answer at the address of another.
    const peerHold = judge.findHold(encounterOf(departure, target, peerSerial));
    if (peerHold === undefined) return this.#carry(departure, way);
    far.abort();
    this.#refuse(departure, target, peerHold);
  }

  #carry(departure: Departure, way: Way): void {
    const { stream } = departure;
    const { far, target } = way;
    const connection = {
      party: departure.party,
      reconsider: () => this.#reconsider(departure, way),
      cut: () => stream.abort(),
      close: (failure: StreamFailure) => far.abort(failure),
    };
    const forget = this.#options.connections.add(connection, departure.round);
    if (forget === undefined) return;
    splice(stream, far, (failure) => {
      forget();
      // The other host took its permit back: the process that asked is to be told.
      if (failure?.reason !== undefined) this.#noteDenial(departure, target, failure);
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
    const found = directory.find(departure.destination);
    if (found.kind !== 'remote' || found.spiffeId !== target)
      return failureOf(judge.refuse(encounter, { reason: 'target_unknown' }));
    const decisionId = judge.newId();
    const verdict = judge.evaluateEgress(encounter, decisionId, 'mesh');
    return verdict.isAllowed ? undefined : failureOf(judge.record(encounter, { decisionId, verdict }, null));
  }

  /** Why a process that calls without a certificate may not: it is held by what registration says that it is, or may be. */
  #findHoldOfNobody(departure: Departure): Refusal | undefined {
    const { svid, identity } = departure;
    if (svid !== null) return undefined;
    const encounter = encounterOf(departure, null);
    const hold = this.#options.judge.findHold(encounter);
    if (hold !== undefined || identity.kind === 'identified') return hold;
    const mayBeHeld = identity.mayBe?.some(
      (spiffeId) => this.#options.judge.findHold(withCaller(encounter, spiffeId)) !== undefined,
    );
    if (mayBeHeld !== true) return undefined;
    const message = `${whyUnidentified(identity)}, and it may be a workload in quarantine`;
    return { reason: 'quarantined', message };
  }

  #findLoss(departure: Departure): Refusal | undefined {
    const { svid } = departure;
    if (svid === null) return this.#findHoldOfNobody(departure);
    if (this.#findSvid(svid.spiffeId) !== null) return undefined;
    return { reason: 'caller_unidentified', message: 'The identity was withdrawn' };
  }

  /** Decided with both identities, without TLS (design: decision 26). */
  #localArrival(departure: Departure, target: SpiffeId): Arrival {
    const { stream, source, destination, connectionId, svid, process } = departure;
    return {
      connectionId,
      caller: svid === null ? null : callerOf(svid),
      source,
      target,
      destination,
      isLocal: true,
      endsAtMs: Infinity,
      process,
      findLoss: () => this.#findLoss(departure),
      accept: () => stream,
      deny: (denial) => stream.abort(denial),
    };
  }

  #noteDenial(departure: Departure, target: SpiffeId | null, failure: StreamFailure): void {
    const { reason, decisionId, message } = failure;
    if (reason === undefined || reason === 'policy_allow') return;
    const known = decisionId === undefined ? {} : { decisionId };
    this.#options.judge.refuse(encounterOf(departure, target), { reason, message, ...known });
  }

  #refuse(departure: Omit<Departure, 'party'>, target: SpiffeId | null, refusal: Refusal): void {
    const known = { decisionId: departure.connectionId, ...refusal };
    this.#end(departure.stream, this.#options.judge.refuse(encounterOf(departure, target), known));
  }

  #end(stream: ByteStream, judgement: Judgement): void {
    stream.abort(failureOf(judgement));
  }

  #findSvid(spiffeId: SpiffeId): HeldSvid | null {
    for (const { entry, svid } of this.#options.identities.current.values())
      if (entry.spiffeId === spiffeId && isValidAt(svid, this.#options.clock.nowMs())) return svid;
    return null;
  }
}

const NOBODY: ProcessIdentity = { kind: 'unidentified', why: 'no_holder', pid: null, uid: null };

const UNKNOWN = { svid: null, identity: NOBODY, process: null };

function callerOf(svid: HeldSvid): MeshCaller | null {
  const [leaf] = svid.chain;
  return leaf === undefined ? null : { spiffeId: svid.spiffeId, notAfterMs: svid.notAfterMs, leaf };
}

function refusalOf(outcome: Exclude<MeshOutcome, { kind: 'accepted' }>): Refusal {
  const { reason, message } = outcome;
  if (outcome.kind === 'failed') return { reason: outcome.reason, message };
  // A host that denies for the reason of an allow makes no sense, and is not believed.
  return reason === 'policy_allow'
    ? { reason: 'protocol_error', message }
    : { reason, message, decisionId: outcome.decisionId };
}
