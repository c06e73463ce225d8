import { describeError, toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundles } from '../../shared/spiffe/trust-bundle.ts';
import type { SvidVerifier } from '../../shared/spiffe/svid-verifier.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { HeldSvid } from '../identity/identity.ts';
import { SvidLife } from '../identity/svid-life.ts';
import { dialForTraffic } from '../native/dial.ts';
import type { StreamFailure } from './byte-stream.ts';
import { formatSocketAddress } from './bun-socket.ts';
import type { HandshakePace } from './handshake-pace.ts';
import type { MeshHandshake, MeshOutcome } from './mesh.ts';
import type { MeshLosses } from './mesh-losses.ts';
import { clientTlsOptions, requireMeshPeer, untrusted, type MeshPeer } from './mesh-tls.ts';
import { meshSocketHandlers, type MeshSocketOwner } from './mesh-tls-socket.ts';
import { TunnelClient, type TunnelAnswer } from './tunnel-client.ts';
import type { OpenFrame } from './tunnel-server.ts';

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
}

/** What all connections of a dialer share. */
export interface MeshDialerContext {
  readonly clock: Clock;
  readonly bundles: Watched<TrustBundles>;
  readonly verifier: SvidVerifier;
  readonly pace: HandshakePace;
  /** For TCP and TLS together. */
  readonly connectMs: number;
  readonly answerMs: number;
  readonly onHandshake: (outcome: MeshHandshake['outcome']) => void;
  readonly onTicket: (dial: MeshDial, session: Uint8Array) => void;
  readonly onIdle: (connection: OutboundMeshConnection) => void;
  readonly onGone: (connection: OutboundMeshConnection) => void;
  readonly losses: MeshLosses;
}

/** A dial that came to nothing. */
export type MeshDialFailure = Extract<MeshOutcome, { readonly kind: 'failed' }>;

interface Established {
  readonly client: TunnelClient;
  readonly peer: MeshPeer;
  /** Of the peer's certificate and of ours. */
  readonly lives: readonly SvidLife[];
}

const TIMER_MARGIN_MS = 10;

/** A connection to another agent for one pair of identities. Nothing is sent on it before the called side was verified. */
export class OutboundMeshConnection implements MeshSocketOwner {
  readonly dial: MeshDial;
  readonly #context: MeshDialerContext;
  readonly #openedAtMs: number;
  #socket: Bun.Socket<MeshSocketOwner> | undefined;
  #established: Established | undefined;
  #connected: ((failure: MeshDialFailure | undefined) => void) | undefined;
  #cancelTimer = (): void => undefined;
  #isResumed = false;
  #isOver = false;

  constructor(context: MeshDialerContext, dial: MeshDial) {
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

  /** Connects and verifies the called side; undefined when all is well. It is called once and never rejects. */
  async connect(): Promise<MeshDialFailure | undefined> {
    const { promise, resolve } = Promise.withResolvers<MeshDialFailure | undefined>();
    this.#connected = resolve;
    const { clock, connectMs, pace } = this.#context;
    this.#cancelTimer = clock.schedule(connectMs, () => this.#fail('target_unreachable', 'ETIMEDOUT'));
    pace.run(() => this.#start());
    return await promise;
  }

  /** Asks for a connection; see `TunnelClient.open`. */
  async open(frame: OpenFrame): Promise<TunnelAnswer> {
    if (this.#established === undefined || !this.isUsable)
      return { kind: 'lost', failure: { message: 'The connection is not usable' } };
    return await this.#established.client.open(frame);
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

  cut(failure: StreamFailure): void {
    if (this.#established === undefined) this.#fail('target_unreachable', failure.message);
    else this.#established.client.tunnel.reset(failure);
  }

  opened(socket: Bun.Socket<MeshSocketOwner>): void {
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
    this.#established?.client.tunnel.received(bytes);
  }

  drained(): void {
    this.#established?.client.tunnel.drained();
  }

  ticket(session: Uint8Array): void {
    if (!this.#isOver && this.#established !== undefined)
      this.#context.onTicket(this.dial, new Uint8Array(session));
  }

  closed(why: string): void {
    if (this.#established === undefined) this.#fail('target_unreachable', why);
    else this.#established.client.tunnel.closed(why);
  }

  #start(): void {
    if (this.#isOver) return;
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
      tls: clientTlsOptions(this.dial.caller, this.dial.target),
      data: this,
      socket: meshSocketHandlers,
    };
    const started = Bun.connect(options as unknown as Bun.TCPSocketConnectOptions<MeshSocketOwner>);
    started.catch((error: unknown) => this.#fail('target_unreachable', describeError(error)));
  }

  /** Throws `unauthenticated` when it is not the target that answers. */
  #establish(socket: Bun.Socket<MeshSocketOwner>): void {
    const { clock, bundles, verifier, answerMs, onHandshake } = this.#context;
    const peer = requireMeshPeer(socket, { verifier, bundles: bundles.current, nowMs: clock.nowMs() });
    if (peer.svid.spiffeId !== this.dial.target)
      throw untrusted('identity_mismatch', `it is ${peer.svid.spiffeId}, not ${this.dial.target}`);
    const client = new TunnelClient({
      socket,
      clock,
      answerMs,
      onIdle: () => this.#context.onIdle(this),
      onBroken: (why) => this.#context.losses.broke(this.dial.address, why),
      onClosed: () => this.#gone(),
    });
    const lives = [new SvidLife(peer.svid, clock), new SvidLife(this.dial.caller, clock)];
    this.#established = { client, peer, lives };
    this.#cancelTimer();
    const leftMs = Math.min(...lives.map((life) => life.remainingMs));
    this.#cancelTimer = clock.schedule(leftMs + TIMER_MARGIN_MS, () => this.reconsider());
    onHandshake(this.#isResumed ? 'resumed' : 'full');
    this.#tellConnected(undefined);
  }

  #lapse({ lives, peer }: Established): StreamFailure | undefined {
    const { clock, bundles, verifier } = this.#context;
    if (!lives.every((life) => life.isInForce))
      return {
        reason: 'target_untrusted',
        message: 'A certificate of the connection has ended, or not begun',
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
