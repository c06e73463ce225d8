import { toPicketError, type PicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { SvidVerifier } from '../../../shared/spiffe/svid-verifier.ts';
import type { HeldSvid, IdentitySource } from '../../identity/identity.ts';
import { SvidLife } from '../../identity/svid-life.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { NativeSocket } from '../streams/bun-socket.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import type { MeshCaller, MeshObserver, MeshOpening } from './mesh.ts';
import type { MeshLosses } from './losses.ts';
import type { MeshListenerLimits, Place } from './listener-limits.ts';
import type { MeshProtocol, MeshServerSession } from './protocol.ts';
import type { ServerOpening } from './server-opening.ts';
import { createMeshServer } from './server.ts';
import { requireMeshPeer, type MeshPeer } from './tls.ts';
import type { MeshSocketOwner } from './tls-socket.ts';
import { findServed } from './served-identities.ts';

/** What all connections of a listener share. */
export interface MeshListenerContext {
  readonly identities: Pick<IdentitySource, 'identities' | 'bundles'>;
  readonly verifier: SvidVerifier;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: MeshListenerLimits;
  readonly observer: MeshObserver | undefined;
  readonly onOpening: (opening: MeshOpening) => void;
  readonly losses: MeshLosses;
  /** A new UUID. */
  readonly newId: () => string;
  /** A connection is gone. */
  readonly onGone: (connection: InboundMeshConnection) => void;
}

/** A connection whose hello was read. */
export interface AcceptedHello {
  readonly svid: HeldSvid;
  readonly protocol: MeshProtocol;
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  readonly place: Place;
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
  readonly #protocol: MeshProtocol;
  readonly #address: SocketAddress;
  readonly #local: SocketAddress;
  readonly #place: Place;
  #socket: NativeSocket<MeshSocketOwner> | undefined;
  #server: MeshServerSession | undefined;
  #peer: VerifiedPeer | undefined;
  #cancelEnd = (): void => undefined;
  #cancelTimeout: () => void;
  #isGone = false;
  #isDraining = false;
  #hasOpened = false;

  constructor(context: MeshListenerContext, accepted: AcceptedHello) {
    this.#context = context;
    this.#svid = accepted.svid;
    this.#protocol = accepted.protocol;
    this.#address = accepted.remote;
    this.#local = accepted.local;
    this.#place = accepted.place;
    const { clock, limits } = context;
    this.#cancelTimeout = clock.schedule(limits.handshakeMs, () => this.#refuse('it took too long'));
  }

  /** Whether the handshake has ended well. */
  get isVerified(): boolean {
    return this.#peer !== undefined;
  }

  /** As `MeshWire.isLeaving`. */
  get isLeaving(): boolean {
    return this.#server?.wire.isLeaving === true;
  }

  /** Its place is wanted by somebody else: it carries nothing, or has proven nothing. */
  giveWay(): void {
    const server = this.#server;
    if (this.isVerified) server?.giveWay();
    else this.#refuse('others come, and it has proven nothing');
  }

  opened(socket: NativeSocket<MeshSocketOwner>): void {
    this.#socket = socket;
  }

  handshaken(failure: string | undefined): void {
    const socket = this.#socket;
    if (this.#isGone || this.#server !== undefined || socket === undefined) return;
    if (failure !== undefined) return this.#refuse(`the handshake failed: ${failure}`);
    this.#cancelTimeout();
    const { clock, limits, observer, newId } = this.#context;
    this.#server = createMeshServer(this.#protocol, {
      socket,
      clock,
      newId,
      local: this.#local,
      peer: this.#address,
      target: this.#svid.spiffeId,
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
    const outcome = socket.isSessionReused() ? 'resumed' : 'full';
    observer?.handshaken({ side: 'called', outcome, protocol: this.#protocol });
    this.#watchIdle();
  }

  received(bytes: Uint8Array): void {
    if (this.isVerified) this.#server?.wire.received(bytes);
  }

  drained(): void {
    this.#server?.wire.drained();
  }

  ticket(): void {
    // Only clients keep tickets.
  }

  closed(why: string): void {
    if (this.#server === undefined) this.#refuse(`the connection ended: ${why}`);
    else this.#server.wire.closed(why);
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

  /**
   * Opens nothing more once its first opening was answered: what crosses a retirement is tried anew by the caller on another connection, but for the first opening of a new
   * one.
   */
  drain(): void {
    this.#isDraining = true;
    // HBONE serves what crosses a retirement.
    if (this.#hasOpened || this.#protocol === 'hbone') this.#server?.retire();
  }

  /** Ends it at once, with the reason. */
  cut(failure: StreamFailure): void {
    if (this.#server === undefined) this.#refuse(failure.message);
    else this.#server.wire.reset(failure);
  }

  #verify(socket: Bun.Socket<unknown>): VerifiedPeer | undefined {
    const { clock, identities, verifier } = this.#context;
    try {
      const trust = { verifier, bundles: identities.bundles.current, nowMs: clock.nowMs() };
      const peer = requireMeshPeer(socket, trust, this.#protocol);
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
    this.#context.observer?.handshaken({ side: 'called', outcome: 'failed', protocol: this.#protocol });
    this.#context.log.warn('mesh_caller_refused', { peer: this.#address.address, error });
    this.#server?.wire.reset({ reason: 'caller_untrusted', message: error.message });
  }

  #opening(opening: ServerOpening): void {
    this.#cancelTimeout();
    this.#place.busy();
    const peer = this.#peer;
    const failure = peer === undefined ? undefined : this.#lapse(peer);
    if (peer === undefined || failure !== undefined)
      return this.cut(failure ?? { message: 'Nobody was verified' });
    this.#hasOpened = true;
    if (this.#isDraining) this.#server?.retire();
    this.#context.onOpening({
      ...opening,
      caller: peer.caller,
      target: this.#svid.spiffeId,
      peer: this.#address,
      endsAtMs: this.#endsAtMs(peer),
      findLapse: () => this.#lapse(peer),
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
    this.#context.observer?.handshaken({ side: 'called', outcome: 'failed', protocol: this.#protocol });
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
