import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';

/** Certificates are valid from this long before they are made: a clock that moves further makes some that nobody takes. */
export const MAX_JUMP_MS = 5 * 60_000;

/** How often the clock is looked at. */
export const LOOK_EVERY_MS = 5000;

/** Hosts report once a minute, and what they say the first time may be of before: after this long each has said what counts. */
export const AGREED_AFTER_MS = 3 * 60_000;

/** Hosts whose clocks are no further off agree with the server's. */
const IN_STEP_MS = 60_000;

/**
 * Notices that somebody set the server's clock: since the server started it should have gone as far as the monotonic one has. A clock that was wrong at the start and is right
 * now is told by the hosts' clocks, once all of them agree with it.
 */
export class ClockWatch implements Running {
  readonly #clock: Clock;
  readonly #log: Log;
  #originMs: number;
  /** What hosts said of the clock as it is now, each the newest and how often it spoke; since when, by the monotonic clock. */
  readonly #hosts = new Map<string, { readonly reports: number; readonly isInStep: boolean }>();
  #comparedOffsetMs = 0;
  #comparedSinceMs = 0;
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

  /** A host says how far its clock is ahead of ours, as it compared them with our last answer. */
  compare(host: string, aheadMs: number): void {
    if (!this.hasJumped) return this.#hosts.clear();
    if (Math.abs(this.#offsetMs() - this.#comparedOffsetMs) > IN_STEP_MS || this.#hosts.size === 0)
      this.#compareAnew();
    const reports = (this.#hosts.get(host)?.reports ?? 0) + 1;
    this.#hosts.set(host, { reports, isInStep: Math.abs(aheadMs) <= IN_STEP_MS });
    if (!this.#isAgreed()) return;
    this.#originMs = this.#offsetMs();
    this.#hosts.clear();
    this.#look();
  }

  async stop(): Promise<void> {
    await Promise.resolve(this.#cancel());
  }

  #compareAnew(): void {
    this.#hosts.clear();
    this.#comparedOffsetMs = this.#offsetMs();
    this.#comparedSinceMs = this.#clock.monotonicMs();
  }

  /** The first report of a host may be of an answer of before. */
  #isAgreed(): boolean {
    if (this.#clock.monotonicMs() - this.#comparedSinceMs < AGREED_AFTER_MS) return false;
    const heard = [...this.#hosts.values()].filter(({ reports }) => reports > 1);
    return heard.length > 0 && heard.every(({ isInStep }) => isInStep);
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
