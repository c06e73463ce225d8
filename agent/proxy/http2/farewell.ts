import { encodeGoAway, MAX_31_BITS } from '../../../shared/wire/http2-frame.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { ForeseenEnd } from '../relays/foreseen-end.ts';
import type { RelayEnd } from '../relays/relay-end.ts';
import type { Http2Sides } from './sides.ts';
import type { Http2Streams } from './streams.ts';

/** Requests that are on their way when a client is told to go elsewhere come within this time, in milliseconds, also from a host that has too much to do. */
const FAREWELL_MS = 3000;
/** A client is told so late at the earliest, in milliseconds after it was greeted: requests that waited for a new connection fail in some clients if they hear of its end first. */
const GREETED_MS = 1000;

export interface Http2FarewellOptions {
  readonly clock: Clock;
  /** When the client's connection will be cut, by the monotonic clock; `Infinity` where that is not known. */
  readonly endsAtMs: number;
  readonly sides: Http2Sides;
  readonly streams: Http2Streams;
  readonly end: RelayEnd;
  /** From now on no further request is taken. */
  readonly onLeaving: () => void;
}

/**
 * Tells a client to make its next requests on another connection (RFC 9113 6.8): first that there should be none here, when those that are on their way are still taken;
 * then which one was the last.
 */
export class Http2Farewell {
  readonly #options: Http2FarewellOptions;
  readonly #cancels: (() => void)[];
  /** When the client was greeted, by the monotonic clock. */
  #greetedMs: number | undefined;
  #isRetired = false;
  #isLeaving = false;

  constructor(options: Http2FarewellOptions) {
    this.#options = options;
    const foreseenEnd = new ForeseenEnd(options.clock, options.endsAtMs);
    this.#cancels = [
      foreseenEnd.whenNear(() => this.#say(MAX_31_BITS)),
      foreseenEnd.whenIdleEnds(() => this.leave()),
    ];
  }

  /** Whether the client was told that no further request is taken. */
  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /** The client has had its first SETTINGS, which nothing may come before. */
  start(): void {
    this.#greetedMs = this.#options.clock.monotonicMs();
    if (this.#isRetired) this.#sayBothSoon(this.#greetedMs);
  }

  /** The agent goes, or the way to the client ends soon. */
  retire(): void {
    if (this.#isRetired) return;
    this.#isRetired = true;
    if (this.#greetedMs !== undefined) this.#sayBothSoon(this.#greetedMs);
  }

  /** Takes no further request. */
  leave(): void {
    const { end, streams, onLeaving } = this.#options;
    if (!end.isAhead) return;
    this.#isLeaving = true;
    this.#say(streams.lastId);
    onLeaving();
  }

  /** Nobody is there any more to be told. */
  stop(): void {
    for (const cancel of this.#cancels) cancel();
  }

  #sayBothSoon(greetedMs: number): void {
    const { clock } = this.#options;
    const waitMs = greetedMs + GREETED_MS - clock.monotonicMs();
    if (waitMs <= 0) return this.#sayBoth();
    this.#cancels.push(clock.schedule(waitMs, () => this.#sayBoth()));
  }

  #sayBoth(): void {
    this.#say(MAX_31_BITS);
    this.#cancels.push(this.#options.clock.schedule(FAREWELL_MS, () => this.leave()));
  }

  #say(lastStreamId: number): void {
    const { end, sides } = this.#options;
    if (!end.isAhead) return;
    sides.toClient.send(encodeGoAway(lastStreamId, 'no_error'));
    sides.settle();
  }
}
