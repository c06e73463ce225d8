import type { Clock } from '../../../shared/runtime/clock.ts';
import type { TunnelFrame } from '../../../shared/wire/tunnel-frame.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { MeshSession } from '../mesh/protocol.ts';
import { readFailure } from './failure.ts';
import type { OpenFrame } from './server.ts';
import { Tunnel, type TunnelSide, type TunnelSocket } from './tunnel.ts';

/** What became of an opening. `lost`: the connection ended before the answer, so that nothing was delivered. */
export type TunnelAnswer =
  | { readonly kind: 'accepted'; readonly stream: ByteStream }
  | { readonly kind: 'denied'; readonly failure: StreamFailure }
  | { readonly kind: 'lost' | 'late'; readonly failure: StreamFailure };

/** How long an answer is waited for. */
export interface Patience {
  /** Where that is less than the client's own `answerMs`. */
  readonly patienceMs?: number;
  /** The other host may take as long as `answerMs` if it shows within `patienceMs` that it is there. */
  readonly isWhileSilent?: boolean;
}

export interface TunnelClientOptions {
  readonly socket: TunnelSocket;
  readonly clock: Clock;
  /** How long the other host may take to answer an opening. */
  readonly answerMs: number;
  /** The connection may be used again. */
  onIdle(): void;
  /** It broke while it carried a stream. */
  onBroken(why: string): void;
  onClosed(failure: StreamFailure): void;
}

/** The calling side of a tunnel. */
export class TunnelClient implements TunnelSide, MeshSession {
  readonly wire: Tunnel;
  readonly #options: TunnelClientOptions;
  #answer: ((answer: TunnelAnswer) => void) | undefined;
  /** Somebody waits for a sign that the other host is there. */
  #isPinged = false;
  #cancelWait = (): void => undefined;
  #isRetired = false;
  #hasTold = false;

  constructor(options: TunnelClientOptions) {
    this.#options = options;
    this.wire = new Tunnel(options.socket, this, options.clock);
  }

  get isIdle(): boolean {
    return this.#answer === undefined && !this.wire.hasStream;
  }

  /** Whether an opening may be sent now. */
  get isUsable(): boolean {
    return this.wire.isOpen && !this.#isRetired && this.isIdle;
  }

  /** Asks for a connection. It never rejects; a connection that is not usable is lost. */
  async open(
    frame: OpenFrame,
    { patienceMs = Infinity, isWhileSilent = false }: Patience = {},
  ): Promise<TunnelAnswer> {
    if (!this.isUsable) return { kind: 'lost', failure: { message: 'The connection is not usable' } };
    const { promise, resolve } = Promise.withResolvers<TunnelAnswer>();
    this.#answer = resolve;
    this.wire.send(frame);
    if (isWhileSilent) this.#ping();
    this.#wait(patienceMs);
    const answer = await promise;
    this.#cancelWait();
    return answer;
  }

  /** Opens nothing more on it, and closes it once it is idle. */
  retire(): void {
    this.#isRetired = true;
    this.#closeIfDone();
  }

  /** Opens nothing more, and tells the other host that what is open should end soon. */
  leave(): void {
    if (this.wire.isOpen && !this.isIdle && !this.#hasTold) {
      this.#hasTold = true;
      this.wire.send({ type: 'retire' });
    }
    this.retire();
  }

  onFrame(frame: TunnelFrame): void {
    if (frame.type === 'retire') this.retire();
    else if (frame.type === 'pong') this.#onPong();
    else if (this.#answer === undefined) this.wire.violate(`a ${frame.type} frame came unasked`);
    else if (frame.type === 'accept') this.#settle({ kind: 'accepted', stream: this.wire.openStream() });
    else if (frame.type === 'deny') this.#denied(readFailure(frame));
    else this.wire.violate(`a server sent a ${frame.type} frame`);
  }

  onIdle(): void {
    this.#closeIfDone();
    if (this.isUsable) this.#options.onIdle();
  }

  onBroken(why: string): void {
    this.#options.onBroken(why);
  }

  onClosed(failure: StreamFailure): void {
    this.#settle({ kind: 'lost', failure });
    this.#options.onClosed(failure);
  }

  #ping(): void {
    if (this.#isPinged) return;
    this.#isPinged = true;
    this.wire.send({ type: 'ping' });
  }

  #onPong(): void {
    if (!this.#isPinged) return this.wire.violate('a pong came without a ping');
    this.#isPinged = false;
    if (this.#answer !== undefined) this.#wait(Infinity);
  }

  #wait(patienceMs: number): void {
    const { clock, answerMs } = this.#options;
    this.#cancelWait();
    this.#cancelWait = clock.schedule(Math.min(answerMs, patienceMs), () => this.#giveUp());
  }

  #denied(failure: StreamFailure): void {
    this.#settle({ kind: 'denied', failure });
    this.onIdle();
  }

  #giveUp(): void {
    const failure = { message: 'The other host did not answer in time' };
    this.#settle({ kind: 'late', failure });
    this.wire.reset(failure);
  }

  #settle(answer: TunnelAnswer): void {
    const tell = this.#answer;
    this.#answer = undefined;
    tell?.(answer);
  }

  #closeIfDone(): void {
    if (this.#isRetired && this.isIdle) this.wire.close();
  }
}
