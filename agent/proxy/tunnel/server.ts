import type { Clock } from '../../../shared/runtime/clock.ts';
import type { TunnelFrame } from '../../../shared/wire/tunnel-frame.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { MeshServerSession } from '../mesh/protocol.ts';
import { failureFrame } from './failure.ts';
import { Tunnel, type TunnelSide, type TunnelSocket } from './tunnel.ts';

/** The frame by which a client asks for a connection. */
export type OpenFrame = Extract<TunnelFrame, { readonly type: 'open' }>;

/** An opening that waits for its answer: one call of `accept` or `deny`, of which only the first counts. */
export interface TunnelOpening {
  readonly frame: OpenFrame;
  /** After the client gave up, the stream fails at once. */
  accept(): ByteStream;
  deny(failure: StreamFailure): void;
  /** Calls `listener` once if the client goes before it was answered. */
  onAbandoned(listener: () => void): void;
  /** Calls `listener` once when the client wants what is open to end soon; at once where it said so already. */
  onLeaving(listener: () => void): void;
}

export interface TunnelServerOptions {
  readonly socket: TunnelSocket;
  readonly clock: Clock;
  /** How long an opening may wait for its answer. */
  readonly openingMs: number;
  /** Throws nothing; an opening that should not even be looked at is denied or the tunnel reset. */
  onOpening(opening: TunnelOpening): void;
  /** An opening was denied, or its stream ended cleanly. */
  onIdle(): void;
  /** It broke while it carried a stream. */
  onBroken(why: string): void;
  onClosed(failure: StreamFailure): void;
}

/** The called side of a tunnel. */
export class TunnelServer implements TunnelSide, MeshServerSession {
  readonly wire: Tunnel;
  readonly #options: TunnelServerOptions;
  #pending: Pending | undefined;
  #isRetired = false;
  #isClientLeaving = false;
  #tellLeaving: (() => void) | undefined;
  /** With which piece of bytes the last opening was answered. */
  #answeredAt = 0;

  constructor(options: TunnelServerOptions) {
    this.#options = options;
    this.wire = new Tunnel(options.socket, this, options.clock);
  }

  get isIdle(): boolean {
    return this.#pending === undefined && !this.wire.hasStream;
  }

  /** Tells the client to open nothing more; what is open goes on. */
  retire(): void {
    if (this.#isRetired || !this.wire.isOpen) return;
    this.#isRetired = true;
    this.wire.send({ type: 'retire' });
    this.#closeIfDone();
  }

  giveWay(): void {
    this.retire();
    this.wire.hasten();
  }

  onFrame(frame: TunnelFrame): void {
    if (frame.type === 'retire' && !this.#isClientLeaving) this.#clientLeaves();
    else if (frame.type !== 'open') this.wire.violate(`a client sent a ${frame.type} frame`);
    else if (!this.isIdle) this.wire.violate('a second connection was asked for');
    // An honest client has read the denial before it asks again.
    else if (this.#answeredAt === this.wire.pieces) this.wire.violate('it asks before it was answered');
    // Each would add a denial that nobody takes.
    else if (this.wire.isFull) this.wire.violate('it asks for connections and reads nothing');
    else if (this.#isClientLeaving)
      this.wire.violate('it asks for a connection after it has said that it leaves');
    // It crossed our retirement: the client takes another connection.
    else if (this.#isRetired) this.wire.close();
    else this.#open(frame);
  }

  onLeaving(listener: () => void): void {
    if (this.#isClientLeaving) listener();
    else this.#tellLeaving = listener;
  }

  onIdle(): void {
    this.#tellLeaving = undefined;
    this.#options.onIdle();
    this.#closeIfDone();
  }

  onBroken(why: string): void {
    this.#options.onBroken(why);
  }

  onClosed(failure: StreamFailure): void {
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.abandon();
    this.#options.onClosed(failure);
  }

  #open(frame: OpenFrame): void {
    const cancel = this.#options.clock.schedule(this.#options.openingMs, () =>
      this.wire.reset({ reason: 'overloaded', message: 'The connection was not decided in time' }),
    );
    const pending = new Pending(frame, this, () => {
      cancel();
      if (this.#pending === pending) this.#pending = undefined;
      this.#answeredAt = this.wire.pieces;
      if (this.isIdle && this.wire.isOpen) this.onIdle();
    });
    this.#pending = pending;
    this.#options.onOpening(pending);
  }

  #clientLeaves(): void {
    this.#isClientLeaving = true;
    this.#tellLeaving?.();
  }

  #closeIfDone(): void {
    if (this.#isRetired && this.isIdle) this.wire.close();
  }
}

class Pending implements TunnelOpening {
  readonly frame: OpenFrame;
  readonly #server: TunnelServer;
  readonly #onAnswered: () => void;
  readonly #listeners: (() => void)[] = [];
  #state: 'waiting' | 'answered' | 'abandoned' = 'waiting';

  constructor(frame: OpenFrame, server: TunnelServer, onAnswered: () => void) {
    this.frame = frame;
    this.#server = server;
    this.#onAnswered = onAnswered;
  }

  accept(): ByteStream {
    if (this.#state === 'answered') throw new TypeError('The opening was answered before');
    if (this.#state === 'waiting') this.#server.wire.send({ type: 'accept' });
    this.#state = 'answered';
    const stream = this.#server.wire.openStream();
    this.#onAnswered();
    return stream;
  }

  deny(failure: StreamFailure): void {
    if (this.#state !== 'waiting') return;
    this.#state = 'answered';
    this.#server.wire.send(failureFrame('deny', failure));
    this.#onAnswered();
  }

  onAbandoned(listener: () => void): void {
    if (this.#state === 'abandoned') queueMicrotask(listener);
    else this.#listeners.push(listener);
  }

  onLeaving(listener: () => void): void {
    this.#server.onLeaving(listener);
  }

  abandon(): void {
    if (this.#state !== 'waiting') return;
    this.#state = 'abandoned';
    this.#onAnswered();
    for (const listener of this.#listeners) listener();
  }
}
