import { readFileSync } from 'node:fs';

/** What a process takes at one moment. */
interface Sample {
  readonly pid: number;
  readonly atMs: number;
  readonly mib: number;
}

/** Memory of processes over time: what is their own, and their part of what they share (Pss). */
export class MemoryRecord {
  readonly #samples = new Map<string, Sample[]>();

  /** Notes what a process takes now, unless it is gone. */
  note(name: string, pid: number): void {
    const samples = this.#samples.get(name) ?? [];
    this.#samples.set(name, samples);
    const mib = readMib(pid);
    if (mib !== undefined) samples.push({ pid, atMs: Date.now(), mib });
  }

  /**
   * Of each name the process that lived longest: how long, and what it took in the second and in the last quarter of that time (medians), in MiB. The first quarter, in which
   * everything is compiled and filled, does not count.
   */
  get growth(): readonly {
    readonly name: string;
    readonly seconds: number;
    readonly early: number;
    readonly late: number;
  }[] {
    return Array.from(this.#samples, ([name, samples]) => {
      const longest = longestLife(samples);
      const [first, last] = [longest[0]?.atMs ?? 0, longest.at(-1)?.atMs ?? 0];
      const between = (from: number, to: number): number =>
        median(
          longest
            .filter(
              ({ atMs }) => atMs >= first + (last - first) * from && atMs <= first + (last - first) * to,
            )
            .map(({ mib }) => mib),
        );
      return {
        name,
        seconds: (last - first) / 1000,
        early: between(0.25, 0.5),
        late: between(0.75, 1),
      };
    });
  }
}

function longestLife(samples: readonly Sample[]): readonly Sample[] {
  const lives = Map.groupBy(samples, ({ pid }) => pid);
  return [...lives.values()].reduce((one, other) => (other.length > one.length ? other : one), []);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function readMib(pid: number): number | undefined {
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1]) / 1024;
  } catch {
    return undefined;
  }
}
