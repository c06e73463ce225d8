import { toPicketError } from '../../../shared/errors/errors.ts';
import type { AnsweredRequest } from '../../../shared/wire/http1-response-head.ts';
import type { RelayEnd } from '../relays/relay-end.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { endInOrder } from '../streams/end-in-order.ts';
import { asBuffer } from '../streams/as-buffer.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from '../streams/byte-stream.ts';
import { ResponseReader, type ResponseSink } from './responses.ts';

/** What an application does with the requests that it was sent. */
export interface Http1ApplicationEvents extends ResponseSink {
  /** Both sides agreed on another protocol (101). What is attached to `stream` now reads all that follows. */
  onUpgraded(stream: ByteStream): void;
  /** It broke off. */
  onBroken(message: string): void;
  /** It cannot be reached, answered what cannot be relayed, or ended within an answer. */
  onFailed(message: string): void;
  /** It takes more. */
  onDrain(): void;
}

export interface Http1ApplicationOptions {
  readonly connect: () => Promise<ByteStream>;
  /** As `connect`, once the connection before is gone; absent where it is asked on one alone. */
  readonly reconnect?: (() => Promise<ByteStream>) | undefined;
  readonly end: RelayEnd;
  readonly clock: Clock;
  readonly events: Http1ApplicationEvents;
}

/** So long before an application ends an idle connection, by its own word, nothing more is sent on it: what meets that end is lost. In milliseconds, and half of the time at most. */
const IDLE_MARGIN_MS = 1000;

/** The application behind one relay: it is sent requests and its answers are followed, from when it is connected until it is dropped. */
export class Http1Application {
  #connect: () => Promise<ByteStream>;
  readonly #reconnect: (() => Promise<ByteStream>) | undefined;
  readonly #end: RelayEnd;
  readonly #clock: Clock;
  readonly #events: Http1ApplicationEvents;
  readonly #responses = new ResponseReader();
  #stream: ByteStream | undefined;
  /** Whether anything has come on this connection, and since the last request. */
  #hasSpoken = false;
  #isSilent = true;

  /** From when on it may end the connection as idle, by the monotonic clock. */
  #staleAtMs = Infinity;

  constructor({ connect, reconnect, end, clock, events }: Http1ApplicationOptions) {
    this.#connect = connect;
    this.#reconnect = reconnect;
    this.#end = end;
    this.#clock = clock;
    this.#events = events;
  }

  /** Undefined before it is connected, and after it broke off. */
  get stream(): ByteStream | undefined {
    return this.#stream;
  }

  /** Whether the client has got a part of the expected answer. */
  get hasBegunAnswer(): boolean {
    return this.#responses.hasBegun;
  }

  /** Whether it speaks another protocol by now. */
  get isUpgraded(): boolean {
    return this.#responses.isUpgraded;
  }

  /** Whether it may be asked on another connection: it has answered before on this one and says nothing to the last request, so that it may have closed it as idle. */
  get mayBeAskedAgain(): boolean {
    return this.#reconnect !== undefined && this.#hasSpoken && this.#isSilent;
  }

  /** Connects to it. False: that failed, as `onFailed` was told, or the relay came to its end meanwhile. */
  async open(): Promise<boolean> {
    this.#hasSpoken = false;
    let stream: ByteStream;
    try {
      stream = await this.#connect();
    } catch (error) {
      this.#events.onFailed(toPicketError(error).message);
      return false;
    }
    if (this.#end.isAhead) this.adopt(stream);
    else stream.abort();
    return this.#stream !== undefined;
  }

  /** It is connected. */
  adopt(stream: ByteStream): void {
    this.#stream = stream;
    this.#staleAtMs = Infinity;
    this.#connect = this.#reconnect ?? this.#connect;
    this.#end.sideOpened();
    stream.attach(this.#reader);
  }

  /** Breaks with it: nobody hears of it any more. */
  drop(): void {
    if (this.#stream === undefined) return;
    this.#stream.abort();
    this.#stream = undefined;
    this.#end.sideDropped();
  }

  /** It has answered whole, and is idle from now on. */
  answered(): void {
    const { keepAliveSeconds: seconds } = this.#responses;
    if (seconds === undefined) this.#staleAtMs = Infinity;
    else
      this.#staleAtMs = this.#clock.monotonicMs() + seconds * 1000 - Math.min(IDLE_MARGIN_MS, seconds * 500);
  }

  /** Leaves a connection that it may be about to end as idle, where it may be asked on another one. */
  leaveIfStale(): void {
    const stream = this.#stream;
    if (this.#staleAtMs === Infinity || this.#reconnect === undefined || stream === undefined) return;
    if (this.#clock.monotonicMs() < this.#staleAtMs) return;
    this.#stream = undefined;
    this.#end.sideDropped();
    void endInOrder([stream], this.#clock);
  }

  /** The next answer is to this request. */
  expect(request: AnsweredRequest): void {
    this.#isSilent = true;
    this.#responses.expect(request);
  }

  readonly #reader: ByteStreamReader = {
    onData: (bytes) => this.#onData(asBuffer(bytes)),
    onEnd: () => this.#onEnd(),
    onDrain: () => this.#events.onDrain(),
    onClose: (failure) => this.#onClose(failure),
  };

  #onData(bytes: Buffer): void {
    if (this.#end.isOver) return;
    this.#hasSpoken = true;
    this.#isSilent = false;
    try {
      this.#responses.take(bytes, this.#events);
    } catch (error) {
      return this.#events.onFailed(toPicketError(error).message);
    }
    if (this.#responses.isUpgraded && this.#stream !== undefined) this.#events.onUpgraded(this.#stream);
  }

  #onEnd(): void {
    if (!this.#end.isAhead) return;
    if (this.#responses.end(this.#events)) this.#end.inOrder();
    else this.#events.onFailed('The application ended within an answer');
  }

  #onClose(failure: StreamFailure | undefined): void {
    if (failure !== undefined) this.#stream = undefined;
    if (failure === undefined || this.#end.isEnding) return this.#end.sideClosed();
    this.#end.sideDropped();
    this.#events.onBroken(failure.message);
  }
}
