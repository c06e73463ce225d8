import { toPicketError } from '../../../shared/errors/errors.ts';
import type { DecisionReason } from '../../../shared/policy/decision.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { classifyFirstBytes, classifyHttp, type FirstBytes } from '../../../shared/wire/http1-detect.ts';
import { readTlsWords } from '../../../shared/wire/tls-words.ts';
import type { ServedProtocol } from '../../directory/directory.ts';
import { isLoopback } from '../../directory/host-address.ts';
import type { ProcessIdentifier } from '../../workload-attestation/process-identity.ts';
import type { Arrival } from './arrival.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { encounterAt, type Gateway } from '../outside/gateway.ts';
import { failureOf } from '../judge/judgement-failure.ts';
import { awaitFirstMove, type FirstMove, type FirstMoveOptions } from '../first-words/first-move.ts';
import { findListenerFault, refusalOfApplication } from './listener-fault.ts';
import { InboundCarrier, partyOf, type InboundCarrierOptions, type Visit } from './inbound-carrier.ts';
import type { Encounter, Judgement, Refusal } from '../judge/judge.ts';
import { waitWatched, type Cut } from '../connections/watched-wait.ts';

export interface InboundOptions extends InboundCarrierOptions {
  readonly processes: ProcessIdentifier;
  /** Where this host is a gateway out of the mesh. */
  readonly gateway?: Gateway;
}

/** How long a client may keep silent on a connection that is not allowed as such, before it counts as no HTTP. */
const SILENCE_MS = 10_000;

/**
 * The called side: who asks for a workload of this host is let through to it, or not. The listener must be registered, and the process that really
 * listens must earn the identity that was asked for. What is decided is recorded before the application is touched.
 */
export class Inbound {
  readonly #options: InboundOptions;
  readonly #carrier: InboundCarrier;

  constructor(options: InboundOptions) {
    this.#options = options;
    this.#carrier = new InboundCarrier(options);
  }

  /** Sees an arrival through. Never rejects. */
  async handle(arrived: Arrival): Promise<void> {
    const leave = this.#options.connections.tryEnter(partyOf(arrived));
    // Without a span: who finds no place must not fill the queue of spans instead.
    if (leave === undefined) return this.#turnAway(arrived, { reason: 'overloaded' });
    const arrival = this.#traced(arrived);
    let accepted: ByteStream | undefined;
    const accept = (): ByteStream => (accepted = arrival.accept());
    try {
      await this.#receive({ ...arrival, accept });
    } catch (error) {
      const { message } = toPicketError(error);
      if (accepted === undefined) this.#turnAway(arrival, { reason: 'application_unreachable', message });
      else accepted.abort({ message });
    } finally {
      leave();
    }
  }

  #traced(arrival: Arrival): Arrival {
    const { traces } = this.#options;
    if (traces === undefined) return arrival;
    const { connectionId, isIdOfCaller: isNamedByCaller = false, traceparent } = arrival;
    const passage = traces.beginPassage({ connectionId, side: 'called', isNamedByCaller, traceparent });
    return { ...arrival, passage };
  }

  async #receive(arrival: Arrival): Promise<void> {
    const { directory, processes, connections, gateway, clock } = this.#options;
    const { destination, target, refusal } = arrival;
    const { round } = connections;
    if (refusal !== undefined) return this.#turnAway(arrival, refusal);
    if (target !== null && gateway?.isFor(target) === true) return await this.#takeOut(arrival, target);
    const found = directory.find(destination, arrival);
    const isReachable = arrival.isLocal || !isLoopback(destination.address);
    if (found.kind !== 'local' || !isReachable || (target !== null && target !== found.spiffeId))
      return this.#turnAway(arrival, { reason: 'listener_not_registered' });
    const { spiffeId, namespace } = found;
    const lookedAtMs = clock.monotonicMs();
    const fault = await findListenerFault(processes, { destination, target: spiffeId, namespace });
    if (fault !== undefined) return this.#turnAway(arrival, fault);
    const encounter = encounterOf(arrival, found.spiffeId);
    const { protocol, proxyProtocol, transparent } = found;
    const asked = { proxyProtocol, transparent };
    const visit = { arrival, target: spiffeId, namespace, encounter, round, lookedAtMs, ...asked };
    await this.#admit(visit, protocol);
  }

  async #takeOut(arrival: Arrival, target: SpiffeId): Promise<void> {
    const refusal = await this.#options.gateway?.receive(arrival, target);
    if (refusal === undefined) return;
    const { connectionId: decisionId } = arrival;
    const refused = this.#options.judge.refuse(encounterAt(target, arrival), { decisionId, ...refusal });
    arrival.deny(denialOf(refused));
  }

  async #admit(visit: Visit, protocol: ServedProtocol): Promise<void> {
    if (protocol === 'tcp') return await this.#admitBytes(visit);
    if (protocol === 'http') return await this.#admitHttp(visit);
    const { judge } = this.#options;
    const { arrival, encounter } = visit;
    const verdict = judge.evaluate(encounter, arrival.connectionId, null);
    const judgement = { decisionId: arrival.connectionId, verdict };
    if (verdict.isAllowed) await this.#admitAny(visit);
    else await this.#admitRequests(visit, judgement);
  }

  /** Never parsed: one decision for the connection. */
  async #admitBytes(visit: Visit): Promise<void> {
    const { arrival, encounter } = visit;
    const judgement = this.#options.judge.judge(encounter, arrival.connectionId, null);
    if (!judgement.verdict.isAllowed) return arrival.deny(denialOf(judgement));
    const application = await this.#dial(visit);
    if (application !== undefined) this.#carrier.splice(visit, arrival.accept(), { application });
  }

  /** Always parsed: what is no HTTP is a bad request. */
  async #admitHttp(visit: Visit): Promise<void> {
    const client = visit.arrival.accept();
    const move = await this.#awaitFirstMove(visit, { client, classify: classifyHttp });
    if (move.kind === 'broken' || move.kind === 'cut') return client.abort(move.failure);
    if (move.kind === 'http2') return this.#carrier.relayHttp2(visit, client, { first: move.bytes });
    this.#carrier.relayHttp(visit, client, { first: move.bytes });
  }

  /**
   * The connection is allowed: the application is connected at once, because it may speak first. HTTP is decided by request all the same, and bytes once they come: a
   * silent connection must not keep a permit that is none any more.
   */
  async #admitAny(visit: Visit): Promise<void> {
    const application = await this.#dial(visit);
    if (application === undefined) return;
    const client = visit.arrival.accept();
    const { judge } = this.#options;
    const move = await this.#awaitFirstMove(visit, { client, application, classify: classifyFirstBytes });
    if (move.kind === 'http1')
      return this.#carrier.relayHttp(visit, client, { first: move.bytes, application });
    if (move.kind === 'http2')
      return this.#carrier.relayHttp2(visit, client, { first: move.bytes, application, spoken: move.spoken });
    if (move.kind === 'broken' || move.kind === 'cut') {
      client.abort(move.failure);
      return application.abort();
    }
    if (move.kind === 'silence') {
      application.abort();
      return abortWith(
        client,
        judge.refuse(visit.encounter, {
          reason: 'protocol_error',
          message: 'The client stopped within a request line',
        }),
      );
    }
    const recorded = judge.judge(visit.encounter, visit.arrival.connectionId, null);
    if (!recorded.verdict.isAllowed) {
      application.abort();
      return abortWith(client, recorded);
    }
    if ('spoken' in move) client.write(move.spoken);
    this.#carrier.splice(visit, client, { application, first: move.bytes });
  }

  /** The connection is not allowed, but requests may be, or TLS by what it says of itself: the application is not touched before one is. */
  async #admitRequests(visit: Visit, judgement: Judgement): Promise<void> {
    const client = visit.arrival.accept();
    const { judge } = this.#options;
    const move = await this.#awaitFirstMove(visit, { client, classify: classifyWithTls });
    if (move.kind === 'http1') return this.#carrier.relayHttp(visit, client, { first: move.bytes });
    if (move.kind === 'http2') return this.#carrier.relayHttp2(visit, client, { first: move.bytes });
    if (move.kind === 'cut') return client.abort(move.failure);
    const tls = move.kind === 'bytes' ? readTlsWords(move.bytes) : undefined;
    if (move.kind === 'bytes' && typeof tls === 'object')
      return await this.#admitTls({ ...visit, encounter: { ...visit.encounter, tls } }, client, move.bytes);
    abortWith(client, judge.record(visit.encounter, judgement, null));
  }

  /** TLS of the client's own passes as it is where the policy allows what it says of itself. */
  async #admitTls(visit: Visit, client: ByteStream, first: Uint8Array): Promise<void> {
    const { judge } = this.#options;
    const judgement = judge.judge(visit.encounter, visit.arrival.connectionId, null);
    if (!judgement.verdict.isAllowed) return abortWith(client, judgement);
    let application: ByteStream;
    try {
      application = await this.#carrier.connect(visit);
    } catch (error) {
      return abortWith(client, judge.refuse(visit.encounter, refusalOfApplication(error)));
    }
    this.#carrier.splice(visit, client, { application, first });
  }

  /** A silent connection is judged again like any other, but for the policy, which decides once something comes. */
  async #awaitFirstMove(
    visit: Visit,
    detection: Pick<FirstMoveOptions, 'client' | 'application' | 'classify'>,
  ): Promise<FirstMove | Cut> {
    const { connections, clock } = this.#options;
    const { arrival, round } = visit;
    const watched = {
      party: partyOf(arrival),
      round,
      reconsider: () => this.#carrier.reconsider(visit, undefined),
    };
    const move = awaitFirstMove({ ...detection, clock, silenceMs: SILENCE_MS });
    return await waitWatched(connections, watched, move);
  }

  async #dial(visit: Visit): Promise<ByteStream | undefined> {
    try {
      return await this.#carrier.connect(visit);
    } catch (error) {
      const refused = this.#options.judge.refuse(visit.encounter, refusalOfApplication(error));
      visit.arrival.deny(denialOf(refused));
      return undefined;
    }
  }

  #turnAway(arrival: Arrival, refusal: Refusal): void {
    const encounter = encounterOf(arrival, arrival.target);
    arrival.deny(
      denialOf(this.#options.judge.refuse(encounter, { decisionId: arrival.connectionId, ...refusal })),
    );
  }
}

/** Until a ClientHello is whole. */
function classifyWithTls(bytes: Buffer): FirstBytes {
  return readTlsWords(bytes) === 'incomplete' ? 'incomplete' : classifyFirstBytes(bytes);
}

function encounterOf(arrival: Arrival, target: SpiffeId | null): Encounter {
  const { caller, source, destination, process, passage } = arrival;
  return {
    direction: 'inbound',
    caller: {
      spiffeId: caller?.spiffeId ?? null,
      ...source,
      certificateNotAfterMs: caller?.notAfterMs ?? 0,
      ...(caller?.serial === undefined ? {} : { certificateSerial: caller.serial }),
    },
    target: { spiffeId: target, ...destination },
    process,
    passage,
  };
}

function denialOf({ decisionId, verdict }: Judgement): {
  readonly reason: DecisionReason;
  readonly decisionId: string;
  readonly message: string;
} {
  return { reason: verdict.reason, decisionId, message: verdict.message };
}

function abortWith(stream: ByteStream, judgement: Judgement): void {
  stream.abort(failureOf(judgement));
}
