import type { Clock } from '../../shared/runtime/clock.ts';

/** The life of a certificate in milliseconds since 1970. */
export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Renewal is spread over this part of the life around its middle, so that hosts that started together do not renew together. */
const JITTER = 0.1;
/** A 24 h life is renewed at the latest an hour before its end (design: decision 28). */
const LATEST_BEFORE_END = 1 / 24;

/** When to renew: half of the life give or take a tenth, at the latest a twenty-fourth of it before the end. `random` is from 0 to 1. */
export function renewAtMs({ notBeforeMs, notAfterMs }: Validity, random: number): number {
  const lifeMs = notAfterMs - notBeforeMs;
  const wishedMs = notBeforeMs + lifeMs * (0.5 + (random * 2 - 1) * JITTER);
  return Math.min(wishedMs, notAfterMs - lifeMs * LATEST_BEFORE_END);
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
