import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';

/** Certificates are valid from this long before they are made; a clock that is further off meets refusals (design: decision 28). */
export const MAX_SKEW_MS = 5 * 60_000;

/** Compares the host's clock with the server's, as its answers tell it to the second. */
export class ServerTime {
  readonly #clock: Clock;
  readonly #log: Log;
  #skewMs = 0;
  #isSkewed = false;

  constructor(options: { readonly clock: Clock; readonly log: Log }) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** How far the host's clock was ahead of the server's at the last answer, in milliseconds; negative: behind. 0 before the first. */
  get skewMs(): number {
    return this.#skewMs;
  }

  /** Whether that is more than `MAX_SKEW_MS` in either direction. */
  get isSkewed(): boolean {
    return this.#isSkewed;
  }

  /** Takes the time of an answer, in milliseconds since 1970. The alarm is logged when it begins and when it ends. */
  observe(serverTimeMs: number): void {
    this.#skewMs = this.#clock.nowMs() - serverTimeMs;
    const isSkewed = Math.abs(this.#skewMs) > MAX_SKEW_MS;
    if (isSkewed === this.#isSkewed) return;
    this.#isSkewed = isSkewed;
    if (isSkewed) this.#log.error('clock_skewed', { skew_ms: this.#skewMs });
    else this.#log.info('clock_in_step', { skew_ms: this.#skewMs });
  }
}
