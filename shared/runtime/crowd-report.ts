import type { Clock } from './clock.ts';
import type { Log } from './log.ts';

/** A flood must not fill the log as well. */
const SILENCE_MS = 10_000;

export interface CrowdReportOptions {
  /** The event under which it is logged. */
  readonly event: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Tells the log of what happens as often as others like, such as connections that are turned away because places ran short: of the first at once, then at most every ten seconds how many there were. */
export class CrowdReport<Why extends string> {
  readonly #options: CrowdReportOptions;
  #counts: Partial<Record<Why, number>> = {};
  #latest = '';
  #isSilent = false;

  constructor(options: CrowdReportOptions) {
    this.#options = options;
  }

  /** `which` is the one that it was: the peer's address, or what went wrong. */
  note(why: Why, which: string): void {
    this.#counts[why] = (this.#counts[why] ?? 0) + 1;
    this.#latest = which;
    if (!this.#isSilent) this.#tell();
  }

  #tell(): void {
    const { log, clock, event } = this.#options;
    log.warn(event, { ...this.#counts, latest: this.#latest });
    this.#counts = {};
    this.#isSilent = true;
    clock.schedule(SILENCE_MS, () => {
      this.#isSilent = false;
      if (Object.keys(this.#counts).length > 0) this.#tell();
    });
  }
}
