import type { ByteStream, ByteStreamReader, StreamFailure } from '../streams/byte-stream.ts';
import { StreamInbox } from '../streams/stream-inbox.ts';

/** What a stream asks of the tunnel that carries it. */
export interface StreamCarrier {
  /** Sends bytes as data frames; false when too much waits. */
  sendData(bytes: Uint8Array): boolean;
  /** False while it waits for the peer to take what was written before: `drained` says when it has gone. */
  sendEnd(): boolean;
  /** Whether the stream wants to be read. */
  steer(isReading: boolean): void;
  /** Both directions have ended cleanly. */
  finished(): void;
  reset(failure: StreamFailure): void;
}

const ABORTED: StreamFailure = { message: 'The connection was aborted' };

/** One application connection within a tunnel. Once it is over it lets go of the tunnel, which may carry the next. */
export class TunnelStream implements ByteStream {
  #carrier: StreamCarrier | undefined;
  readonly #inbox = new StreamInbox();
  #isEnding = false;
  /** The kernel has it, and all that was written before it. */
  #isEndSent = false;
  #isPeerEnded = false;
  #isDrainOwed = false;

  constructor(carrier: StreamCarrier) {
    this.#carrier = carrier;
  }

  attach(reader: ByteStreamReader): void {
    this.#inbox.attach(reader);
    this.#steer();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#carrier === undefined || this.#isEnding || bytes.length === 0) return true;
    const isRoom = this.#carrier.sendData(bytes);
    this.#isDrainOwed ||= !isRoom;
    return isRoom;
  }

  end(): void {
    if (this.#carrier === undefined || this.#isEnding) return;
    this.#isEnding = true;
    this.#isEndSent = this.#carrier.sendEnd();
    this.#finishIfEnded();
  }

  abort(failure: StreamFailure = ABORTED): void {
    const carrier = this.#carrier;
    this.#carrier = undefined;
    this.#inbox.discard();
    carrier?.reset(failure);
  }

  pause(): void {
    this.#inbox.pause();
    this.#steer();
  }

  resume(): void {
    this.#inbox.resume();
    this.#steer();
  }

  /** Bytes came through the tunnel, and more with them where they are `isFollowed`. False: the peer had ended. */
  receive(bytes: Uint8Array, isFollowed: boolean): boolean {
    if (this.#isPeerEnded) return false;
    if (this.#inbox.data(bytes, isFollowed)) this.#steer();
    return true;
  }

  /** The peer's direction ended. False: it had before. */
  receiveEnd(): boolean {
    if (this.#isPeerEnded) return false;
    this.#isPeerEnded = true;
    this.#inbox.end();
    this.#finishIfEnded();
    return true;
  }

  /** The tunnel has sent everything. */
  drained(): void {
    if (this.#isDrainOwed) {
      this.#isDrainOwed = false;
      this.#inbox.drained();
    }
    if (!this.#isEnding || this.#isEndSent) return;
    this.#isEndSent = true;
    this.#finishIfEnded();
  }

  /** The tunnel carries it no more. */
  fail(failure: StreamFailure): void {
    this.#carrier = undefined;
    this.#inbox.close(failure);
  }

  #steer(): void {
    this.#carrier?.steer(this.#inbox.wantsBytes);
  }

  #finishIfEnded(): void {
    const carrier = this.#carrier;
    if (carrier === undefined || !this.#isEndSent || !this.#isPeerEnded) return;
    this.#carrier = undefined;
    this.#inbox.close(undefined);
    carrier.finished();
  }
}
