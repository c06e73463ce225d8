import { describeError, toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { TrustBundles } from '../../../shared/spiffe/trust-bundle.ts';
import type { SvidVerifier } from '../../../shared/spiffe/svid-verifier.ts';
import type { Watched } from '../../../shared/runtime/watched-value.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import { SvidLife } from '../../identity/svid-life.ts';
import { dialForTraffic } from '../../native/dial.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { formatSocketAddress, type NativeSocket } from '../streams/bun-socket.ts';
import type { HandshakePace } from './handshake-pace.ts';
import type { MeshHandshake, MeshOutcome } from './mesh.ts';
import type { MeshLosses } from './losses.ts';
import { clientTlsOptions, requireMeshPeer, untrusted, type MeshPeer } from './tls.ts';
import { meshSocketHandlers, type MeshSocketOwner } from './tls-socket.ts';
import type { MeshProtocol, MeshSession } from './protocol.ts';
import type { TunnelSocket } from '../tunnel/tunnel.ts';

/** What to connect to, and as whom. */
export interface MeshDial {
  readonly key: string;
  readonly caller: HeldSvid;
  readonly target: SpiffeId;
  readonly address: string;
  readonly port: number;
  readonly mark: number;
  /** A ticket of an earlier connection of the same key and certificate. */
  readonly session: Uint8Array | undefined;
  /** As `MeshRequest.patienceMs`; `Infinity` without. */
  readonly patienceMs: number;
  readonly isAnsweredSlowly: boolean;
}

/** The calling side of what is spoken within a connection. */
export interface MeshClient extends MeshSession {
  /** Whether an opening may be sent now. */
  readonly isUsable: boolean;
  /** As `retire`, and tells the other host that what is open should end soon; absent where the protocol has no word for it. */
  leave?(): void;
}

/** What a client tells the connection that carries it. */
export interface MeshClientEvents {
  /** The connection may be used again. */
  onIdle(): void;
  /** It broke while it carried something. */
  onBroken(why: string): void;
  onClosed(failure: StreamFailure): void;
}

/** What all connections of a dialer share. */
export interface MeshDialerContext<Client extends MeshClient> {
  readonly protocol: MeshProtocol;
  readonly createClient: (socket: TunnelSocket, events: MeshClientEvents) => Client;
  readonly clock: Clock;
  readonly bundles: Watched<TrustBundles>;
  readonly verifier: SvidVerifier;
  readonly pace: HandshakePace;
  /** For TCP and TLS together. */
  readonly connectMs: number;
  readonly onHandshake: (outcome: MeshHandshake['outcome']) => void;
  readonly onTicket: (dial: MeshDial, session: Uint8Array) => void;
  readonly onIdle: (connection: OutboundMeshConnection<Client>) => void;
  readonly onGone: (connection: OutboundMeshConnection<Client>) => void;
  readonly losses: MeshLosses;
}

/** A dial that came to nothing. */
export type MeshDialFailure = Extract<MeshOutcome, { readonly kind: 'failed' }>;

interface Established<Client> {
  readonly client: Client;
  readonly peer: MeshPeer;
  /** Of the peer's certificate and of ours. */
  readonly lives: readonly [ofPeer: SvidLife, own: SvidLife];
}

const TIMER_MARGIN_MS = 10;

/** A connection to another agent for one pair of identities. Nothing is sent on it before the called side was verified. */
export class OutboundMeshConnection<Client extends MeshClient> implements MeshSocketOwner {
  readonly dial: MeshDial;
  readonly #context: MeshDialerContext<Client>;
  readonly #openedAtMs: number;
  #socket: NativeSocket<MeshSocketOwner> | undefined;
  #established: Established<Client> | undefined;
  #connected: ((failure: MeshDialFailure | undefined) => void) | undefined;
  #cancelTimer = (): void => undefined;
  #isResumed = false;
  #isOver = false;

  constructor(context: MeshDialerContext<Client>, dial: MeshDial) {
    this.#context = context;
    this.dial = dial;
    this.#openedAtMs = context.clock.monotonicMs();
  }

  get isResumed(): boolean {
    return this.#isResumed;
  }

  get ageMs(): number {
    return this.#context.clock.monotonicMs() - this.#openedAtMs;
  }

  /** End of the called side's certificate. */
  get peerNotAfterMs(): number {
    return this.#established?.peer.svid.notAfterMs ?? 0;
  }

  /** Of the called side's certificate, lower-case hexadecimal. */
  get peerSerial(): string {
    return this.#established?.peer.svid.serial ?? '';
  }

  get isUsable(): boolean {
    const { client, lives } = this.#established ?? {};
    return client?.isUsable === true && lives?.every((life) => life.isInForce) === true;
  }

  /** As `MeshWire.isLeaving`. */
  get isLeaving(): boolean {
    return this.#established?.client.wire.isLeaving === true;
  }

  /** Connects and verifies the called side; undefined when all is well. It is called once and never rejects. */
  async connect(): Promise<MeshDialFailure | undefined> {
    const { promise, resolve } = Promise.withResolvers<MeshDialFailure | undefined>();
    this.#connected = resolve;
    this.#context.pace.run(() => this.#start());
    return await promise;
  }

  /** Who was asked for connections, usable or not; undefined before the called side was verified. */
  get establishedClient(): Client | undefined {
    return this.#established?.client;
  }

  /** Whom to ask for a connection; undefined while the connection is not usable. */
  get client(): Client | undefined {
    return this.isUsable ? this.#established?.client : undefined;
  }

  /** Trust has changed or a certificate has ended: cuts the connection if an end of it is good no more, and uses it for nothing else if it only came to be older than that. */
  reconsider(): void {
    if (this.#established === undefined) return;
    const failure = this.#lapse(this.#established);
    if (failure !== undefined) this.cut(failure);
    else this.retire();
  }

  /** One that is still being set up goes on: it is verified under what holds then. */
  retire(): void {
    this.#established?.client.retire();
  }

  /** As `retire`; the other host is told that what is open should end soon, if the protocol lets it. */
  leave(): void {
    const client = this.#established?.client;
    if (client?.leave === undefined) client?.retire();
    else client.leave();
  }

  cut(failure: StreamFailure): void {
    if (this.#established === undefined) this.#fail('target_unreachable', failure.message);
    else this.#established.client.wire.reset(failure);
  }

  opened(socket: NativeSocket<MeshSocketOwner>): void {
    this.#socket = socket;
    const { session } = this.dial;
    if (this.#isOver) socket.terminate();
    else if (session !== undefined) socket.setSession(session);
  }

  handshaken(failure: string | undefined): void {
    const socket = this.#socket;
    if (this.#isOver || this.#established !== undefined || socket === undefined) return;
    if (failure !== undefined) return this.#fail('target_unreachable', failure);
    this.#isResumed = socket.isSessionReused();
    try {
      this.#establish(socket);
    } catch (error) {
      this.#fail('target_untrusted', toPicketError(error).message);
    }
  }

  received(bytes: Uint8Array): void {
    this.#established?.client.wire.received(bytes);
  }

  drained(): void {
    this.#established?.client.wire.drained();
  }

  ticket(session: Uint8Array): void {
    if (!this.#isOver && this.#established !== undefined)
      this.#context.onTicket(this.dial, new Uint8Array(session));
  }

  closed(why: string): void {
    if (this.#established === undefined) this.#fail('target_unreachable', why);
    else this.#established.client.wire.closed(why);
  }

  #start(): void {
    if (this.#isOver) return;
    const { clock, connectMs } = this.#context;
    // From now on: how long this host made it wait for its turn says nothing of the other one.
    this.#cancelTimer = clock.schedule(Math.min(connectMs, this.dial.patienceMs), () =>
      this.#fail('target_unreachable', 'ETIMEDOUT'),
    );
    try {
      this.#connectSocket(dialForTraffic(this.dial));
    } catch (error) {
      this.#fail('target_unreachable', describeError(error));
    }
  }

  #connectSocket(fd: number): void {
    const options = {
      fd,
      allowHalfOpen: true,
      tls: clientTlsOptions(this.dial.caller, this.dial.target, this.#context.protocol),
      data: this,
      socket: meshSocketHandlers,
    };
    const started = Bun.connect(options as unknown as Bun.TCPSocketConnectOptions<MeshSocketOwner>);
    started.catch((error: unknown) => this.#fail('target_unreachable', describeError(error)));
  }

  /** Throws `unauthenticated` when it is not the target that answers. */
  #establish(socket: NativeSocket<MeshSocketOwner>): void {
    const { clock, bundles, verifier, protocol, onHandshake } = this.#context;
    const trust = { verifier, bundles: bundles.current, nowMs: clock.nowMs() };
    const peer = requireMeshPeer(socket, trust, protocol);
    if (peer.svid.spiffeId !== this.dial.target)
      throw untrusted('identity_mismatch', `it is ${peer.svid.spiffeId}, not ${this.dial.target}`);
    const client = this.#context.createClient(socket, {
      onIdle: () => this.#context.onIdle(this),
      onBroken: (why) => this.#context.losses.broke(this.dial.address, why),
      onClosed: () => this.#gone(),
    });
    const lives = [new SvidLife(peer.svid, clock), new SvidLife(this.dial.caller, clock)] as const;
    this.#established = { client, peer, lives };
    this.#cancelTimer();
    const leftMs = Math.min(...lives.map((life) => life.remainingMs));
    this.#cancelTimer = clock.schedule(leftMs + TIMER_MARGIN_MS, () => this.reconsider());
    onHandshake(this.#isResumed ? 'resumed' : 'full');
    this.#tellConnected(undefined);
  }

  #lapse({ lives, peer }: Established<Client>): StreamFailure | undefined {
    const { clock, bundles, verifier } = this.#context;
    const [ofPeer, own] = lives;
    if (!own.isInForce)
      return { reason: 'caller_untrusted', message: 'Our own certificate has ended, or not begun' };
    if (!ofPeer.isInForce)
      return {
        reason: 'target_untrusted',
        message: 'The certificate of the other side has ended, or not begun',
      };
    try {
      verifier.verify(peer.chain, bundles.current, clock.nowMs());
      return undefined;
    } catch (error) {
      return { reason: 'target_untrusted', message: toPicketError(error).message };
    }
  }

  /** The connection does not come about. */
  #fail(reason: MeshDialFailure['reason'], why: string): void {
    if (this.#isOver || this.#established !== undefined) return;
    const message = `Cannot reach ${this.dial.target} at ${formatSocketAddress(this.dial)}: ${why}`;
    this.#context.onHandshake('failed');
    this.#gone();
    this.#socket?.terminate();
    this.#tellConnected({ kind: 'failed', reason, message });
  }

  #tellConnected(failure: MeshDialFailure | undefined): void {
    this.#connected?.(failure);
    this.#connected = undefined;
  }

  #gone(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelTimer();
    this.#context.onGone(this);
  }
}
