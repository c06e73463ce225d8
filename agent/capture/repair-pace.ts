/** Above this many repairs within the time, somebody takes the rules away again and again. */
const MAX_REPAIRS = 10;
const WITHIN_MS = 10_000;
/** From then on this long passes between two repairs, so that whoever does it does not have the host's processor too. */
const PAUSE_MS = 50;
/** How often it is logged that it goes on. */
const TELL_EVERY_MS = 10_000;

/**
 * How fast somebody else's changes are undone: at once, unless they come without end. Then repairs have pauses, which are short, since the rules are missing
 * meanwhile. Times are those of a monotonic clock, in milliseconds.
 */
export class RepairPace {
  #repairedAtMs: number[] = [];
  #toldAtMs = -Infinity;

  /** Whether the rules are taken away again and again. */
  isContested(nowMs: number): boolean {
    this.#forget(nowMs);
    return this.#repairedAtMs.length > MAX_REPAIRS;
  }

  /** How long to wait with the next look. */
  pauseMs(nowMs: number): number {
    const last = this.#repairedAtMs.at(-1);
    if (last === undefined || !this.isContested(nowMs)) return 0;
    return Math.max(0, last + PAUSE_MS - nowMs);
  }

  repaired(nowMs: number): void {
    this.#forget(nowMs);
    this.#repairedAtMs.push(nowMs);
  }

  /** Whether it is time to say so; single repairs are told one by one until then. */
  shouldTell(nowMs: number): boolean {
    if (!this.isContested(nowMs) || nowMs - this.#toldAtMs < TELL_EVERY_MS) return false;
    this.#toldAtMs = nowMs;
    return true;
  }

  #forget(nowMs: number): void {
    this.#repairedAtMs = this.#repairedAtMs.filter((atMs) => nowMs - atMs < WITHIN_MS);
  }
}
