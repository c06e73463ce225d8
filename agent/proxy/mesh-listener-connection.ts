import { toPicketError, type PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { SvidVerifier } from '../../shared/spiffe/svid-verifier.ts';
import type { FrameAddress } from '../../shared/wire/tunnel-frame.ts';
import type { HeldSvid, IdentitySource, WorkloadIdentity } from '../identity/identity.ts';
import { SvidLife } from '../identity/svid-life.ts';
import { decodeIpAddress } from '../../shared/runtime/ip-address.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { ByteStream, StreamFailure } from './byte-stream.ts';
import type { MeshCaller, MeshObserver, MeshOpening } from './mesh.ts';
import type { MeshLosses } from './mesh-losses.ts';
import type { MeshListenerLimits, Place } from './mesh-listener-limits.ts';
import { requireMeshPeer, type MeshPeer } from './mesh-tls.ts';
import type { MeshSocketOwner } from './mesh-tls-socket.ts';
import { TunnelServer, type TunnelOpening } from './tunnel-server.ts';

/** What all connections of a listener share. */
export interface MeshListenerContext {
  readonly identities: IdentitySource;
  readonly verifier: SvidVerifier;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: MeshListenerLimits;
  readonly observer: MeshObserver | undefined;
  readonly onOpening: (opening: MeshOpening) => void;
  readonly losses: MeshLosses;
  /** A connection is gone. */
  readonly onGone: (connection: InboundMeshConnection) => void;
}

/** Timers may fire a little early; a life that has not ended then would not be looked at again. */
const TIMER_MARGIN_MS = 10;

interface VerifiedPeer extends MeshPeer {
  readonly life: SvidLife;
  readonly caller: MeshCaller;
}

/** A connection from another agent, from the choice of our certificate on. Nothing that it carries is looked at before the peer was verified. */
export class InboundMeshConnection implements MeshSocketOwner {
  readonly #context: MeshListenerContext;
  readonly #svid: HeldSvid;
  readonly #address: SocketAddress;
  readonly #place: Place;
  #socket: Bun.Socket<MeshSocketOwner> | undefined;
  #server: TunnelServer | undefined;
  #peer: VerifiedPeer | undefined;
  #cancelEnd = (): void => undefined;
  #cancelTimeout: () => void;
  #isGone = false;

  constructor(
    context: MeshListenerContext,
    accepted: { readonly svid: HeldSvid; readonly address: SocketAddress; readonly place: Place },
  ) {
    this.#context = context;
    this.#svid = accepted.svid;
    this.#address = accepted.address;
    this.#place = accepted.place;
    const { clock, limits } = context;
    this.#cancelTimeout = clock.schedule(limits.handshakeMs, () => this.#refuse('it took too long'));
  }

  /** Whether the handshake has ended well. */
  get isVerified(): boolean {
    return this.#peer !== undefined;
  }

  /** Its place is wanted by somebody else: it carries nothing, or has proven nothing. */
  giveWay(): void {
    if (this.isVerified) this.#server?.retire();
    else this.#refuse('others come, and it has proven nothing');
  }

  opened(socket: Bun.Socket<MeshSocketOwner>): void {
    this.#socket = socket;
  }

  handshaken(failure: string | undefined): void {
    const socket = this.#socket;
    if (this.#isGone || this.#server !== undefined || socket === undefined) return;
    if (failure !== undefined) return this.#refuse(`the handshake failed: ${failure}`);
    this.#cancelTimeout();
    const { clock, limits, observer } = this.#context;
    this.#server = new TunnelServer({
      socket,
      clock,
      openingMs: limits.openingMs,
      onOpening: (opening) => this.#opening(opening),
      onIdle: () => this.#watchIdle(),
      onBroken: (why) => this.#context.losses.broke(this.#address.address, why),
      onClosed: (failure) => this.#ended(failure),
    });
    const peer = this.#verify(socket);
    if (peer === undefined) return;
    this.#peer = peer;
    this.#cancelEnd = clock.schedule(peer.life.remainingMs + TIMER_MARGIN_MS, () => this.reconsider());
    observer?.handshaken({ side: 'called', outcome: socket.isSessionReused() ? 'resumed' : 'full' });
    this.#watchIdle();
  }

  received(bytes: Uint8Array): void {
    if (this.isVerified) this.#server?.tunnel.received(bytes);
  }

  drained(): void {
    this.#server?.tunnel.drained();
  }

  ticket(): void {
    // Only clients keep tickets.
  }

  closed(why: string): void {
    if (this.#server === undefined) this.#refuse(`the connection ended: ${why}`);
    else this.#server.tunnel.closed(why);
  }

  /** Trust, our identities or time have changed: cuts the connection if an end of it is good no more, and lets it open nothing more if it only came to be older than that. */
  reconsider(): void {
    const peer = this.#peer;
    if (peer === undefined) return;
    const failure = this.#lapse(peer);
    if (failure !== undefined) this.cut(failure);
    else this.#server?.retire();
  }

  /** Like `reconsider`, for a change of our identities alone: as long as ours is the same, nothing happens. */
  reconsiderIdentity(): void {
    const current = this.#currentSvid();
    if (current?.chainPem !== this.#svid.chainPem) this.reconsider();
  }

  /** Opens nothing more; what is open goes on. */
  retire(): void {
    if (this.isVerified) this.#server?.retire();
    else this.#refuse('the agent stops');
  }

  /** Ends it at once, with the reason. */
  cut(failure: StreamFailure): void {
    if (this.#server === undefined) this.#refuse(failure.message);
    else this.#server.tunnel.reset(failure);
  }

  #verify(socket: Bun.Socket<unknown>): VerifiedPeer | undefined {
    const { clock, identities, verifier } = this.#context;
    try {
      const bundles = identities.bundles.current;
      const peer = requireMeshPeer(socket, { verifier, bundles, nowMs: clock.nowMs() });
      const { spiffeId, notAfterMs, serial } = peer.svid;
      const leaf = peer.chain[0] ?? new Uint8Array();
      return {
        ...peer,
        life: new SvidLife(peer.svid, clock),
        caller: { spiffeId, notAfterMs, serial, leaf },
      };
    } catch (error) {
      this.#tellRefusal(toPicketError(error));
      return undefined;
    }
  }

  /** The peer learns why, within TLS. */
  #tellRefusal(error: PicketError): void {
    this.#context.observer?.handshaken({ side: 'called', outcome: 'failed' });
    this.#context.log.warn('mesh_caller_refused', { peer: this.#address.address, error });
    this.#server?.tunnel.reset({ reason: 'caller_untrusted', message: error.message });
  }

  #opening(opening: TunnelOpening): void {
    this.#cancelTimeout();
    this.#place.busy();
    const peer = this.#peer;
    const failure = peer === undefined ? undefined : this.#lapse(peer);
    if (peer === undefined || failure !== undefined)
      return this.cut(failure ?? { message: 'Nobody was verified' });
    const { frame } = opening;
    this.#context.onOpening({
      connectionId: frame.connectionId,
      caller: peer.caller,
      target: this.#svid.spiffeId,
      destination: toSocketAddress(frame.destination),
      peer: this.#address,
      claimedSource: toSocketAddress(frame.source),
      endsAtMs: this.#endsAtMs(peer),
      findLapse: () => this.#lapse(peer),
      accept: (): ByteStream => opening.accept(),
      deny: (denial) => opening.deny(denial),
      onAbandoned: (listener) => opening.onAbandoned(listener),
    });
  }

  /** Why the connection may not go on. The peer's certificate is verified under the bundles of now, for its validity never stretches. */
  #lapse(peer: VerifiedPeer): StreamFailure | undefined {
    const { clock, identities, verifier } = this.#context;
    if (this.#currentSvid() === undefined)
      return { reason: 'target_unknown', message: `${this.#svid.spiffeId} is served here no more` };
    if (this.#svid.notAfterMs <= clock.nowMs())
      return { reason: 'target_untrusted', message: 'The certificate of the called side has ended' };
    if (peer.life.isEnded)
      return { reason: 'caller_untrusted', message: "The caller's certificate has ended" };
    try {
      verifier.verify(peer.chain, identities.bundles.current, clock.nowMs());
      return undefined;
    } catch (error) {
      return { reason: 'caller_untrusted', message: toPicketError(error).message };
    }
  }

  #endsAtMs({ life }: VerifiedPeer): number {
    const { clock } = this.#context;
    return clock.monotonicMs() + Math.min(life.remainingMs, this.#svid.notAfterMs - clock.nowMs());
  }

  #currentSvid(): HeldSvid | undefined {
    return findServed(this.#context.identities.identities.current, this.#svid.spiffeId)?.svid;
  }

  #watchIdle(): void {
    this.#cancelTimeout();
    this.#place.idle();
    const { clock, limits } = this.#context;
    this.#cancelTimeout = clock.schedule(limits.idleMs, () => this.#server?.retire());
  }

  /** Ends a connection whose handshake did not come about. */
  #refuse(why: string): void {
    if (this.#isGone) return;
    this.#context.observer?.handshaken({ side: 'called', outcome: 'failed' });
    this.#context.log.debug('mesh_handshake_failed', { peer: this.#address.address, why });
    this.#gone();
    this.#socket?.terminate();
  }

  /** Who speaks here has proven to be a workload of the mesh: that it does not keep to the protocol is worth a line. */
  #ended({ reason, message }: StreamFailure): void {
    const caller = this.#peer?.svid.spiffeId;
    if (reason === 'protocol_error' && caller !== undefined)
      this.#context.log.warn('mesh_protocol_broken', { peer: this.#address.address, caller, message });
    this.#gone();
  }

  #gone(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#cancelTimeout();
    this.#cancelEnd();
    this.#place.leave();
    this.#context.onGone(this);
  }
}

/** The identity that we serve under a SPIFFE ID; of several entries the one whose certificate lasts longest. */
export function findServed(
  identities: ReadonlyMap<string, WorkloadIdentity>,
  spiffeId: SpiffeId,
): WorkloadIdentity | undefined {
  let best: WorkloadIdentity | undefined;
  for (const identity of identities.values())
    if (identity.svid.spiffeId === spiffeId && !(best !== undefined && lastsLonger(best, identity)))
      best = identity;
  return best;
}

function lastsLonger(one: WorkloadIdentity, other: WorkloadIdentity): boolean {
  return one.svid.notAfterMs >= other.svid.notAfterMs;
}

function toSocketAddress({ address, port }: FrameAddress): SocketAddress {
  return { address: decodeIpAddress(address), port };
}
