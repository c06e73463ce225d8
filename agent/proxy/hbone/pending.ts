import type { ByteStream } from '../streams/byte-stream.ts';
import type { HboneStream } from './stream.ts';
import type { OpeningDenial } from '../mesh/server-opening.ts';

export interface PendingConnectEvents {
  /** Tells the peer: let in, unless there is a denial. */
  answer(denial: OpeningDenial | undefined): void;
  /** It was answered, or its stream is gone: nothing is waited for. */
  onSettled(): void;
  /** The stream is gone, and somebody still decides. */
  onAbandoned(): void;
  /** That decision has come. */
  onForgotten(): void;
}

const LATE: OpeningDenial = {
  reason: 'overloaded',
  decisionId: '',
  message: 'The connection was not decided in time',
};

/** A CONNECT that waits for its answer. */
export class PendingConnect {
  readonly #stream: HboneStream;
  readonly #events: PendingConnectEvents;
  readonly #listeners: (() => void)[] = [];
  #state: 'waiting' | 'answered' | 'abandoned' = 'waiting';

  constructor(stream: HboneStream, events: PendingConnectEvents) {
    this.#stream = stream;
    this.#events = events;
    stream.onUnanswered = () => this.#abandon();
  }

  /** After the peer gave up, the stream has failed. */
  accept(): ByteStream {
    if (this.#state === 'answered') throw new TypeError('The opening was answered before');
    if (this.#state === 'abandoned') this.#forget();
    else this.#settle(undefined);
    return this.#stream;
  }

  deny(denial: OpeningDenial): void {
    if (this.#state === 'abandoned') this.#forget();
    else if (this.#state === 'waiting') this.#settle(denial);
  }

  /** It took too long: the peer is answered, whatever is decided then. */
  giveUp(): void {
    if (this.#state !== 'waiting') return;
    this.#settle(LATE);
    this.#abandon();
  }

  onAbandoned(listener: () => void): void {
    if (this.#state === 'abandoned') queueMicrotask(listener);
    else this.#listeners.push(listener);
  }

  #settle(denial: OpeningDenial | undefined): void {
    this.#state = 'answered';
    this.#stream.onUnanswered = undefined;
    this.#events.onSettled();
    this.#events.answer(denial);
  }

  #abandon(): void {
    this.#state = 'abandoned';
    this.#events.onSettled();
    this.#events.onAbandoned();
    for (const listener of this.#listeners) listener();
  }

  #forget(): void {
    this.#state = 'answered';
    this.#events.onForgotten();
  }
}
