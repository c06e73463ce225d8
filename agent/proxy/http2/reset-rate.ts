import type { Clock } from '../../../shared/runtime/clock.ts';
import { http2Failure } from '../../../shared/wire/http2-error.ts';
import { HTTP2_LIMITS } from './limits.ts';

const WINDOW_MS = 1000;

/** Counts streams that end before their time: whoever opens and resets them without end costs others more than himself (CVE-2023-44487, CVE-2025-8671). */
export class Http2ResetRate {
  readonly #clock: Clock;
  #sinceMs = -Infinity;
  #count = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws `http2_enhance_your_calm` beyond the limit. */
  count(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sinceMs >= WINDOW_MS) {
      this.#sinceMs = nowMs;
      this.#count = 0;
    }
    this.#count++;
    if (this.#count > HTTP2_LIMITS.resetsPerSecond)
      throw http2Failure(
        'enhance_your_calm',
        `more than ${HTTP2_LIMITS.resetsPerSecond} streams were reset in a second`,
      );
  }
}
