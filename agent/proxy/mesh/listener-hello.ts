import { describeError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { MAX_CLIENT_HELLO_BYTES, parseClientHello } from '../../../shared/wire/client-hello.ts';
import { Peeker } from '../../native/peek.ts';

/** What a connection began with: the name that it asks for and the protocols that it offers, or why it is none of ours. */
export type HelloOutcome =
  | { readonly kind: 'hello'; readonly serverName: string | null; readonly alpn: readonly string[] }
  | { readonly kind: 'refused'; readonly why: string };

/** Nothing wakes a paused socket, so it is looked at again after these delays: short at first, because a hello follows its connection closely. */
const FIRST_DELAY_MS = 1;
const MAX_DELAY_MS = 50;

/** Waits for whole ClientHellos on paused sockets, without taking their bytes. */
export class HelloWatch {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #peeker = new Peeker(MAX_CLIENT_HELLO_BYTES);

  /** `timeoutMs` is how long a hello may take to come. */
  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** Calls `done` once, perhaps at once, unless the returned function was called before: do so before the descriptor is closed. */
  wait(fd: number, done: (outcome: HelloOutcome) => void): () => void {
    const endMs = this.#clock.monotonicMs() + this.#timeoutMs;
    let seen = 0;
    let delayMs = FIRST_DELAY_MS;
    let cancel = (): void => undefined;
    const look = (): void => {
      const outcome = this.#look(fd, seen);
      if (typeof outcome === 'object') return done(outcome);
      if (this.#clock.monotonicMs() >= endMs) return done(refused('it did not come in time'));
      seen = outcome;
      cancel = this.#clock.schedule(delayMs, look);
      delayMs = Math.min(MAX_DELAY_MS, delayMs * 2);
    };
    look();
    return () => cancel();
  }

  /** The outcome, or how many bytes wait if they are not enough; what was seen before is not read again. */
  #look(fd: number, seen: number): HelloOutcome | number {
    try {
      const bytes = this.#peeker.peek(fd);
      if (bytes === undefined) return 0;
      if (bytes.length === 0) return refused('the connection ended before it');
      if (bytes.length === seen) return seen;
      const result = parseClientHello(bytes);
      if (result.kind === 'incomplete') return bytes.length;
      return result.kind === 'malformed' ? refused(result.why) : result;
    } catch (error) {
      return refused(describeError(error));
    }
  }
}

function refused(why: string): HelloOutcome {
  return { kind: 'refused', why };
}
