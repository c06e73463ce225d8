/** What a table measures of each contender. */
export interface Measure {
  readonly name: string;
  /** Of the values, such as `1/s` or `us`. */
  readonly unit: string;
  /** Which way is better. */
  readonly better: 'more' | 'less';
  /** What the ratio to haproxy must reach (`more`) or stay below (`less`); absent where nothing was promised. */
  readonly floor?: number;
  /** What Picket's own value must reach (`more`) or stay below (`less`), where there is no peer to compare with. */
  readonly bound?: number;
}

/** The values of one contender in one round, by the name of the measure. */
export type Sample = Readonly<Record<string, number>>;

/** What one contender reached. */
export interface Result {
  readonly contender: string;
  readonly median: number;
  /** Median of the ratios of each round to the reference in the same round; undefined without a reference. */
  readonly ratio?: number;
}

/** A measure with what every contender reached. */
export interface Row {
  readonly measure: Measure;
  readonly results: readonly Result[];
  /** Whether Picket meets the floor; absent where there is none. */
  readonly isMet?: boolean;
}

/** A part of the benchmark, as it is printed. */
export interface Table {
  readonly name: string;
  readonly title: string;
  /** The contender that the ratios are to. */
  readonly reference?: string;
  readonly rows: readonly Row[];
  /** What a reader must know of the conditions. */
  readonly notes?: readonly string[];
}

/** Middle of the values; NaN of none. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value below which a part `q` (0 to 1) of the values lies; NaN of none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}
