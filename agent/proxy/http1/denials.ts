import type { Clock } from '../../../shared/runtime/clock.ts';
import type { RequestHead } from '../../../shared/wire/http1-head.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { buildDenialResponse } from '../denial-response.ts';
import type { Judgement } from '../judge/judge.ts';

/** Of a refused request's body that is read away; the connection of one that announces more is ended. */
const MAX_DISCARDED_BYTES = 256 * 1024;
/** After so many denials a client that sent more requests waits for its next turn. */
const DENIALS_IN_A_TURN = 32;
/** And after so long, in milliseconds: one that asks for what is dear to decide must not hold up others either. */
const TURN_MS = 5;

export interface Http1DenialsOptions {
  readonly client: ByteStream;
  readonly clock: Clock;
  /** Whether the connection ends soon, so that its client must make its next request on another one. */
  readonly isEndNear: () => boolean;
  /** No further request is to be read, until `goOn`. */
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
  #waitsFor: 'drain' | 'turn' | undefined;
  #count = 0;
  #beganMs = 0;

  constructor(options: Http1DenialsOptions) {
    this.#options = options;
  }

  /** To be called when requests begin to be read. */
  begin(): void {
    this.#beganMs = this.#options.clock.monotonicMs();
  }

  /** Whether the body of a refused request is being read. */
  get isDiscarding(): boolean {
    return this.#isDiscarding;
  }

  /** Whether requests that were sent are held back. */
  get isWaiting(): boolean {
    return this.#waitsFor !== undefined;
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
    if (!isRoom) this.#wait('drain');
    else if (this.#isTurnOver()) this.#wait('turn');
    return false;
  }

  /** The request was read to its end. */
  complete(): void {
    this.#isDiscarding = false;
  }

  /** The client has read what waited for it. */
  drained(): void {
    if (this.#waitsFor === 'drain') this.#endWait();
  }

  #isTurnOver(): boolean {
    const lastedMs = this.#options.clock.monotonicMs() - this.#beganMs;
    return this.#count % DENIALS_IN_A_TURN === 0 || lastedMs >= TURN_MS;
  }

  #wait(what: 'drain' | 'turn'): void {
    this.#waitsFor = what;
    this.#options.hold();
    if (what === 'turn') this.#options.clock.schedule(0, () => this.#endWait());
  }

  #endWait(): void {
    this.#waitsFor = undefined;
    this.#options.goOn();
  }
}
