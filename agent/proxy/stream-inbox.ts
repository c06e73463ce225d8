import type { ByteStreamReader, StreamFailure } from './byte-stream.ts';

/**
 * The reading side that every `ByteStream` shares: hands events to the reader, holds them while there is none or it is paused, and repeats
 * to a new reader what ended before. Only `data` and `drained` call the reader at once; everything else reaches it in a microtask, so that none of
 * its own calls to the stream calls it back.
 */
export class StreamInbox {
  readonly #held: Uint8Array[] = [];
  #reader: ByteStreamReader | undefined;
  #isPaused = false;
  #isScheduled = false;
  #isEnded = false;
  #isEndTold = false;
  #closure: { readonly failure: StreamFailure | undefined } | undefined;
  #isCloseTold = false;

  /** Whether the source should be read. */
  get isOpen(): boolean {
    return this.#reader !== undefined && !this.#isPaused;
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

  /** Bytes came; they are copied if they must wait. */
  data(bytes: Uint8Array): void {
    if (this.isOpen && this.#held.length === 0) this.#reader?.onData(bytes);
    else this.#held.push(new Uint8Array(bytes));
  }

  end(): void {
    this.#isEnded = true;
    this.#scheduleDelivery();
  }

  /** The last event of the stream. */
  close(failure: StreamFailure | undefined): void {
    this.#closure ??= { failure };
    this.#scheduleDelivery();
  }

  drained(): void {
    this.#reader?.onDrain();
  }

  /** No reader is called any more. */
  discard(): void {
    this.#reader = undefined;
    this.#held.length = 0;
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
    if (this.#held.length > 0) return;
    if (this.isOpen && this.#isEnded && !this.#isEndTold) {
      this.#isEndTold = true;
      this.#reader?.onEnd();
    }
    this.#deliverClose();
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
