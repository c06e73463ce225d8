import type { Clock } from '../../shared/runtime/clock.ts';
import type { TunnelFrame } from '../../shared/wire/tunnel-frame.ts';
import type { ByteStream, StreamFailure } from './byte-stream.ts';
import { readFailure } from './tunnel-failure.ts';
import type { OpenFrame } from './tunnel-server.ts';
import { Tunnel, type TunnelSide, type TunnelSocket } from './tunnel.ts';

/** What became of an opening. `lost`: the connection ended before the answer, so that nothing was delivered. */
export type TunnelAnswer =
  | { readonly kind: 'accepted'; readonly stream: ByteStream }
  | { readonly kind: 'denied'; readonly failure: StreamFailure }
  | { readonly kind: 'lost' | 'late'; readonly failure: StreamFailure };

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
export class TunnelClient implements TunnelSide {
  readonly tunnel: Tunnel;
  readonly #options: TunnelClientOptions;
  #answer: ((answer: TunnelAnswer) => void) | undefined;
  #isRetired = false;

  constructor(options: TunnelClientOptions) {
    this.#options = options;
    this.tunnel = new Tunnel(options.socket, this, options.clock);
  }

  get isIdle(): boolean {
    return this.#answer === undefined && !this.tunnel.hasStream;
  }

  /** Whether an opening may be sent now. */
  get isUsable(): boolean {
    return this.tunnel.isOpen && !this.#isRetired && this.isIdle;
  }

  /** Asks for a connection. It never rejects; a connection that is not usable is lost. */
  async open(frame: OpenFrame): Promise<TunnelAnswer> {
    if (!this.isUsable) return { kind: 'lost', failure: { message: 'The connection is not usable' } };
    const { promise, resolve } = Promise.withResolvers<TunnelAnswer>();
    this.#answer = resolve;
    this.tunnel.send(frame);
    const cancel = this.#options.clock.schedule(this.#options.answerMs, () => this.#giveUp());
    const answer = await promise;
    cancel();
    return answer;
  }

  /** Opens nothing more on it, and closes it once it is idle. */
  retire(): void {
    this.#isRetired = true;
    this.#closeIfDone();
  }

  onFrame(frame: TunnelFrame): void {
    if (frame.type === 'retire') this.retire();
    else if (this.#answer === undefined) this.tunnel.violate(`a ${frame.type} frame came unasked`);
    else if (frame.type === 'accept') this.#settle({ kind: 'accepted', stream: this.tunnel.openStream() });
    else if (frame.type === 'deny') this.#denied(readFailure(frame));
    else this.tunnel.violate(`a server sent a ${frame.type} frame`);
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

  #denied(failure: StreamFailure): void {
    this.#settle({ kind: 'denied', failure });
    this.onIdle();
  }

  #giveUp(): void {
    const failure = { message: 'The other host did not answer in time' };
    this.#settle({ kind: 'late', failure });
    this.tunnel.reset(failure);
  }

  #settle(answer: TunnelAnswer): void {
    const tell = this.#answer;
    this.#answer = undefined;
    tell?.(answer);
  }

  #closeIfDone(): void {
    if (this.#isRetired && this.isIdle) this.tunnel.close();
  }
}
