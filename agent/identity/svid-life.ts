import type { Clock } from '../../shared/runtime/clock.ts';

/** The life of a certificate in milliseconds since 1970. */
export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Renewal is spread over this part of the life around its middle, so that hosts that started together do not renew together. */
const JITTER = 0.1;
/** Servers date a certificate back by this: that part of its life is over before it begins. */
const DATED_BACK_MS = 5 * 60_000;
/** A 24 h life is renewed at the latest an hour before its end. */
const LATEST_BEFORE_END = 1 / 24;

/**
 * When to renew: half of the life that it had when it was issued, give or take a tenth, at the latest a twenty-fourth of it before the end. `random` is
 * from 0 to 1. A life of seconds is not renewed before its half either, although it is dated back by minutes.
 */
export function renewAtMs({ notBeforeMs, notAfterMs }: Validity, random: number): number {
  const issuedMs = notBeforeMs + DATED_BACK_MS < notAfterMs ? notBeforeMs + DATED_BACK_MS : notBeforeMs;
  const lifeMs = notAfterMs - issuedMs;
  const wishedMs = issuedMs + lifeMs * (0.5 + (random * 2 - 1) * JITTER);
  return Math.min(wishedMs, notAfterMs - lifeMs * LATEST_BEFORE_END);
}

/** Whether a certificate has begun and has not ended by the wall clock, which may have jumped either way. */
export function isValidAt({ notBeforeMs, notAfterMs }: Validity, nowMs: number): boolean {
  return notBeforeMs <= nowMs && nowMs < notAfterMs;
}

/**
 * The end of a certificate by two clocks. The wall clock may jump: forward it ends the life early; back it does not stretch
 * it, because the monotonic clock has counted on from the moment at which the certificate was taken.
 */
export class SvidLife {
  readonly #clock: Clock;
  readonly #validity: Validity;
  readonly #monotonicEndMs: number;

  constructor(validity: Validity, clock: Clock) {
    this.#clock = clock;
    this.#validity = validity;
    this.#monotonicEndMs = clock.monotonicMs() + (validity.notAfterMs - clock.nowMs());
  }

  /** Whether it may be used now: a wall clock that was set back to before its beginning makes it one of the future. */
  get isInForce(): boolean {
    return !this.isEnded && isValidAt(this.#validity, this.#clock.nowMs());
  }

  get isEnded(): boolean {
    return this.remainingMs <= 0;
  }

  /** The shorter of what both clocks say, in milliseconds. */
  get remainingMs(): number {
    return Math.min(
      this.#validity.notAfterMs - this.#clock.nowMs(),
      this.#monotonicEndMs - this.#clock.monotonicMs(),
    );
  }
}
