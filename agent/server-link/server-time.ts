import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';

/** Certificates are valid from this long before they are made; a clock that is further off meets refusals. */
export const MAX_SKEW_MS = 5 * 60_000;

/** The clock may be set while no server answers: it is looked at this often. */
export const LOOK_EVERY_MS = 5000;

/**
 * Compares the host's clock with the server's, as its answers tell it to the second. Between answers the monotonic clock counts on, so that a jump of the
 * host's clock is noticed whether or not a server is there.
 */
export class ServerTime implements Running {
  readonly #clock: Clock;
  readonly #log: Log;
  /** What the server's clock would show where the monotonic one shows 0; undefined before the first answer. */
  #serverOriginMs: number | undefined;
  #isAlarmed = false;
  #cancel: () => void = () => undefined;

  constructor(options: { readonly clock: Clock; readonly log: Log }) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** How far the host's clock is ahead of the server's, in milliseconds; negative: behind. Undefined before the first answer. */
  get skewMs(): number | undefined {
    if (this.#serverOriginMs === undefined) return undefined;
    return this.#clock.nowMs() - this.#clock.monotonicMs() - this.#serverOriginMs;
  }

  /** Whether that is more than `MAX_SKEW_MS` in either direction. */
  get isSkewed(): boolean {
    return Math.abs(this.skewMs ?? 0) > MAX_SKEW_MS;
  }

  /** Takes the time of an answer, in milliseconds since 1970. */
  observe(serverTimeMs: number): void {
    const isFirst = this.#serverOriginMs === undefined;
    this.#serverOriginMs = serverTimeMs - this.#clock.monotonicMs();
    this.#look();
    if (isFirst) this.#lookAgain();
  }

  async stop(): Promise<void> {
    this.#cancel();
  }

  /** The alarm is logged when it begins and when it ends. */
  #look(): void {
    if (this.isSkewed === this.#isAlarmed) return;
    this.#isAlarmed = this.isSkewed;
    if (this.#isAlarmed) this.#log.error('clock_skewed', { skew_ms: this.skewMs });
    else this.#log.info('clock_in_step', { skew_ms: this.skewMs });
  }

  #lookAgain(): void {
    this.#cancel = this.#clock.schedule(LOOK_EVERY_MS, () => {
      this.#look();
      this.#lookAgain();
    });
  }
}
