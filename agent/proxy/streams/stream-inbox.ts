import type { ByteStreamReader, StreamFailure } from './byte-stream.ts';
import { HeldBytes } from './held-bytes.ts';

/**
 * What is read before there is a reader, one piece more at most. Mostly there is one a little later, and to stop the source for that time costs more than the copy: a
 * socket that is paused and resumed makes four calls of epoll_ctl and two turns of the event loop in vain, on each leg of a connection.
 */
export const READ_AHEAD_BYTES = 16 * 1024;

/**
 * Shorter pieces that come with others reach the reader together. Each costs some 3 us where it is written to a program by itself, whatever its length: in bytes of one read a peer could
 * have the event loop busy for a third of a second.
 */
const SMALL_BYTES = 1024;

/**
 * The reading side that every `ByteStream` shares: hands events to the reader, holds them while there is none or it is paused, and repeats
 * to a new reader what ended before. Only `data`, `handOver` and `drained` call the reader at once; everything else reaches it in a microtask, so that none of
 * its own calls to the stream calls it back.
 */
export class StreamInbox {
  readonly #held = new HeldBytes();
  readonly #readsAhead: boolean;
  #reader: ByteStreamReader | undefined;
  #isPaused = false;
  #isScheduled = false;
  #isEnded = false;
  #isEndTold = false;
  #closure: { readonly failure: StreamFailure | undefined } | undefined;
  #isCloseTold = false;

  constructor({ readsAhead = true }: { readonly readsAhead?: boolean } = {}) {
    this.#readsAhead = readsAhead;
  }

  /** Whether bytes reach the reader as they come. */
  get isOpen(): boolean {
    return this.#reader !== undefined && !this.#isPaused;
  }

  /** Whether the source should be read: also before there is a reader, up to `READ_AHEAD_BYTES`, where it reads ahead at all. */
  get wantsBytes(): boolean {
    if (this.#isPaused) return false;
    return this.#reader !== undefined || (this.#readsAhead && this.#held.length < READ_AHEAD_BYTES);
  }

  /** Bytes that wait for the reader. */
  get heldBytes(): number {
    return this.#held.length;
  }

  attach(reader: ByteStreamReader): void {
    this.#reader = reader;
    this.#isEndTold = false;
    this.#isCloseTold = false;
    this.#scheduleDelivery();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#scheduleDelivery();
  }

  /** Bytes came, and more with them where they are `isFollowed`; they are copied if they must wait, and then it is true: `wantsBytes` may have changed. */
  data(bytes: Uint8Array, isFollowed = false): boolean {
    if (!this.isOpen) {
      this.#held.push(bytes);
      return true;
    }
    if (this.#held.length === 0 && !(isFollowed && bytes.length < SMALL_BYTES)) {
      this.#reader?.onData(bytes);
      return false;
    }
    this.#held.push(bytes);
    this.#scheduleDelivery();
    return true;
  }

  /** Hands over at once what waits for others that came with it. */
  handOver(): void {
    if (this.isOpen && this.#held.length > 0) this.#deliver();
  }

  end(): void {
    this.#isEnded = true;
    this.#scheduleDelivery();
  }

  /** The last event of the stream. A failure voids what nobody is about to read: to hold it would hold back the failure, for as long as the reader pauses. */
  close(failure: StreamFailure | undefined): void {
    this.#closure ??= { failure };
    this.#dropIfFailed();
    this.#scheduleDelivery();
  }

  drained(): void {
    this.#reader?.onDrain();
  }

  /** No reader is called any more. */
  discard(): void {
    this.#reader = undefined;
    this.#held.clear();
  }

  #scheduleDelivery(): void {
    if (this.#isScheduled || !this.#hasNews()) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#deliver();
    });
  }

  #hasNews(): boolean {
    return this.#held.length > 0 || this.#isEnded || this.#closure !== undefined;
  }

  /** Each call may pause, discard or replace the reader. */
  #deliver(): void {
    while (this.isOpen && this.#held.length > 0) {
      const bytes = this.#held.shift();
      if (bytes !== undefined) this.#reader?.onData(bytes);
    }
    this.#dropIfFailed();
    if (this.#held.length > 0) return;
    if (this.isOpen && this.#isEnded && !this.#isEndTold && !this.#isCloseTold) {
      this.#isEndTold = true;
      this.#reader?.onEnd();
    }
    this.#deliverClose();
  }

  #dropIfFailed(): void {
    if (this.#closure?.failure !== undefined && !this.isOpen) this.#held.clear();
  }

  /** A failure is told to a paused reader too: what it waits for will not come. */
  #deliverClose(): void {
    const closure = this.#closure;
    if (closure === undefined || this.#isCloseTold || this.#reader === undefined) return;
    if (this.#isPaused && closure.failure === undefined) return;
    this.#isCloseTold = true;
    this.#reader.onClose(closure.failure);
  }
}
