import type { Lab } from './lab.ts';
import type { Table } from './measure.ts';

/** How thoroughly to measure. */
export interface Effort {
  /** Rounds that count. */
  readonly rounds: number;
  /** Of load in each round of each contender. */
  readonly seconds: number;
}

/** What a table is measured with. */
export interface BenchRun extends Effort {
  readonly lab: Lab;
  /** Tells how far it is. */
  readonly progress: (text: string) => void;
}

/** A part of the benchmark that can be asked for by its name. */
export interface Benchmark {
  readonly name: string;
  readonly title: string;
  readonly isQuick: boolean;
  measure(run: BenchRun): Promise<Table>;
}
