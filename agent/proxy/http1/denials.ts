import type { RequestHead } from '../../../shared/wire/http1-head.ts';
import type { ConnectionTurns } from '../connections/fair-turns.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { buildDenialResponse } from '../relays/denial-response.ts';
import type { Judgement } from '../judge/judge.ts';

/** Of a refused request's body that is read away; the connection of one that announces more is ended. */
const MAX_DISCARDED_BYTES = 256 * 1024;
/** After so many denials a client that sent more requests waits for its next turn. */
const DENIALS_IN_A_TURN = 32;

export interface Http1DenialsOptions {
  readonly client: ByteStream;
  readonly turns: ConnectionTurns;
  /** Whether the connection ends soon, so that its client must make its next request on another one. */
  readonly isEndNear: () => boolean;
  /** No further request is to be read, until `goOn` or the connection's next turn. */
  readonly hold: () => void;
  readonly goOn: () => void;
}

/**
 * Answers the refused requests of one connection and reads their bodies away. Whoever asks for more than it reads, or for very much at once, waits: it must
 * neither fill our memory nor hold up others.
 */
export class Http1Denials {
  readonly #options: Http1DenialsOptions;
  #isDiscarding = false;
  #waitsForDrain = false;
  #count = 0;

  constructor(options: Http1DenialsOptions) {
    this.#options = options;
  }

  /** Whether the body of a refused request is being read. */
  get isDiscarding(): boolean {
    return this.#isDiscarding;
  }

  /** Whether requests that were sent are held back. */
  get isWaiting(): boolean {
    return this.#waitsForDrain || this.#options.turns.isWaiting;
  }

  /** The client hears why. True: that was its last answer. */
  answer(judgement: Judgement, head: RequestHead): boolean {
    const isLong = head.isChunked || head.bodyBytes > MAX_DISCARDED_BYTES;
    const closes = head.closes || head.expectsContinue || isLong || this.#options.isEndNear();
    const { httpStatus: status } = judgement.verdict;
    const isHead = head.method === 'HEAD';
    const isRoom = this.#options.client.write(buildDenialResponse(judgement, { status, closes, isHead }));
    this.#isDiscarding = true;
    this.#count += 1;
    if (closes) return true;
    if (!isRoom) this.#waitForDrain();
    else if (this.#isTurnOver()) this.#waitForTurn();
    return false;
  }

  /** The request was read to its end. */
  complete(): void {
    this.#isDiscarding = false;
  }

  /** The client has read what waited for it. */
  drained(): void {
    if (!this.#waitsForDrain) return;
    this.#waitsForDrain = false;
    this.#options.goOn();
  }

  #isTurnOver(): boolean {
    return this.#count % DENIALS_IN_A_TURN === 0 || this.#options.turns.isOver;
  }

  #waitForDrain(): void {
    this.#waitsForDrain = true;
    this.#options.hold();
  }

  #waitForTurn(): void {
    this.#options.hold();
    this.#options.turns.wait();
  }
}
