import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';

/** Certificates are valid from this long before they are made: a clock that moves further makes some that nobody takes (design: decision 28). */
export const MAX_JUMP_MS = 5 * 60_000;

/** How often the clock is looked at. */
export const LOOK_EVERY_MS = 5000;

/** Notices that somebody set the server's clock: since the server started it should have gone as far as the monotonic one has. */
export class ClockWatch implements Running {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #originMs: number;
  #isAlarmed = false;
  #cancel: () => void;

  constructor(options: { readonly clock: Clock; readonly log: Log }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#originMs = this.#offsetMs();
    this.#cancel = this.#schedule();
  }

  /** How far the clock was set ahead since the server started, in milliseconds; negative: back. */
  get jumpMs(): number {
    return this.#offsetMs() - this.#originMs;
  }

  /** Whether that is more than `MAX_JUMP_MS` in either direction. */
  get hasJumped(): boolean {
    return Math.abs(this.jumpMs) > MAX_JUMP_MS;
  }

  async stop(): Promise<void> {
    await Promise.resolve(this.#cancel());
  }

  #offsetMs(): number {
    return this.#clock.nowMs() - this.#clock.monotonicMs();
  }

  #schedule(): () => void {
    return this.#clock.schedule(LOOK_EVERY_MS, () => {
      this.#look();
      this.#cancel = this.#schedule();
    });
  }

  /** Logged when it begins and when it ends. */
  #look(): void {
    if (this.hasJumped === this.#isAlarmed) return;
    this.#isAlarmed = this.hasJumped;
    const jump = { jump_ms: Math.round(this.jumpMs) };
    if (this.#isAlarmed) this.#log.error('clock_jumped', jump);
    else this.#log.info('clock_in_step', jump);
  }
}
