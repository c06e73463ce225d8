import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { RelayTimer } from './relay-timer.ts';

export interface RelayEndOptions {
  readonly client: ByteStream;
  /** The application, while it is connected. */
  readonly application: () => ByteStream | undefined;
  readonly timer: RelayTimer;
  /** Nothing more is to be taken from the client: what was said to it goes out, and what it still sends is thrown away. Before both sides are ended. */
  readonly onEnding: () => void;
  /** Called once, when both sides are closed, or broken with the failure. */
  readonly onOver: (failure: StreamFailure | undefined) => void;
}

/** How much a client may send after it has lingered, in bytes: requests that it wrote ahead, windows that it gives for what it reads. */
export const AFTERWORD_BYTES = 64 * 1024;

const REFUSED: StreamFailure = { message: 'It was refused' };

/** How a relay between a client and an application comes to its end: in good order, after a last word to a client that may not listen, or at once. */
export class RelayEnd {
  readonly #options: RelayEndOptions;
  #isEnding = false;
  #isOver = false;
  #hasAnswered = false;
  /** How much the client may still send. */
  #afterwordBytes = Infinity;
  /** The client's, and the application's while there is one. */
  #openSides = 1;

  constructor(options: RelayEndOptions) {
    this.#options = options;
  }

  /** Whether it has not begun: requests are still taken. */
  get isAhead(): boolean {
    return !this.#isEnding && !this.#isOver;
  }

  /** Whether the client has been told that nothing more comes; both sides may still have to take what they were sent. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** The client was given something of the application's: at the end it may still be reading that. */
  answered(): void {
    this.#hasAnswered = true;
  }

  /** The client has sent so many bytes that are thrown away. */
  threwAway(bytes: number): void {
    this.#afterwordBytes -= bytes;
    if (this.#afterwordBytes < 0) this.atOnce(REFUSED);
  }

  /** The application is connected. */
  sideOpened(): void {
    this.#openSides += 1;
  }

  /** The application is gone without having closed. */
  sideDropped(): void {
    this.#openSides -= 1;
  }

  /** A side has closed. It is over with the last one, or with a failure. */
  sideClosed(failure?: StreamFailure): void {
    if (this.#isOver) return;
    this.#openSides -= 1;
    if (failure !== undefined || this.#openSides <= 0) this.#finish(failure);
  }

  /** Both sides have closed, or one of them was broken and the other with it. */
  bothClosed(failure: StreamFailure | undefined): void {
    if (!this.#isOver) this.#finish(failure);
  }

  /** Ends both sides after what they were sent. */
  inOrder(): void {
    if (!this.isAhead) return;
    this.#isEnding = true;
    const { client, application, timer, onEnding } = this.#options;
    timer.close(() => this.atOnce({ message: 'It did not end' }));
    onEnding();
    client.end();
    application()?.end();
  }

  /**
   * Ends both sides after a last word to the client, which is reset soon if it does not end in turn. One that was given answers before may be reading those: as long as it sends next to nothing, it is waited
   * for as by `inOrder`.
   */
  afterRefusal(): void {
    this.inOrder();
    if (!this.#isOver) this.#options.timer.linger(() => this.#lingered());
  }

  /** Breaks both sides at once. */
  atOnce(failure: StreamFailure): void {
    if (this.#isOver) return;
    this.#options.client.abort(failure);
    this.#finish(failure);
  }

  #lingered(): void {
    if (!this.#hasAnswered) return this.atOnce(REFUSED);
    this.#afterwordBytes = AFTERWORD_BYTES;
    this.#options.timer.close(() => this.atOnce(REFUSED));
  }

  #finish(failure: StreamFailure | undefined): void {
    this.#isOver = true;
    this.#options.timer.stop();
    if (failure !== undefined) this.#options.application()?.abort(failure);
    this.#options.onOver(failure);
  }
}
