import type { Clock } from './clock.ts';

/** Counts connections that were turned away because places ran short, for metrics and the doctor. */
export class CrowdTally<Why extends string = string> {
  readonly #clock: Pick<Clock, 'nowMs'>;
  readonly #counts = new Map<Why, number>();
  #lastMs: number | undefined;

  constructor(clock: Pick<Clock, 'nowMs'>) {
    this.#clock = clock;
  }

  /** Notes one, or `count` that somebody else has counted. */
  note(why: Why, count = 1): void {
    if (count === 0) return;
    this.#counts.set(why, (this.#counts.get(why) ?? 0) + count);
    this.#lastMs = this.#clock.nowMs();
  }

  /** How many there were since start, by why. */
  get counts(): ReadonlyMap<Why, number> {
    return this.#counts;
  }

  /** When the last one was, in milliseconds since 1970; undefined: never since start. */
  get lastMs(): number | undefined {
    return this.#lastMs;
  }
}

/** What a process tells of those it turned away. */
export interface CrowdSummary {
  readonly count: number;
  /** When the last one was, RFC 3339; absent: never since start. */
  readonly lastAt?: string | undefined;
}

/** What several tallies come to together. */
export function summarizeCrowd(tallies: readonly CrowdTally[]): CrowdSummary {
  const count = tallies.flatMap(({ counts }) => [...counts.values()]).reduce((sum, each) => sum + each, 0);
  const lastMs = Math.max(...tallies.map((tally) => tally.lastMs ?? -Infinity));
  return Number.isFinite(lastMs) ? { count, lastAt: new Date(lastMs).toISOString() } : { count };
}
