import { median, type Measure, type Result, type Row, type Sample } from './measure.ts';

export interface Comparison<C extends { readonly name: string }> {
  readonly contenders: readonly C[];
  readonly reference: string;
  /** Whose results the floors are for. */
  readonly ours: string;
  readonly measures: readonly Measure[];
  readonly rounds: number;
  readonly sample: (contender: C) => Promise<Sample>;
  readonly onRound?: (round: number) => void;
}

/**
 * Measures every contender once a round, one after another, so that what disturbs the machine for a while disturbs them all. The first round
 * warms up and does not count. Ratios are taken within a round, and their median over the rounds.
 */
export async function compare<C extends { readonly name: string }>(
  comparison: Comparison<C>,
): Promise<readonly Row[]> {
  const { contenders, rounds, sample, onRound } = comparison;
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    onRound?.(round);
    for (const contender of contenders) {
      const taken = await sample(contender);
      if (round > 0) samples.get(contender.name)?.push(taken);
    }
  }
  return comparison.measures.map((measure) => rowOf(measure, samples, comparison));
}

function rowOf(
  measure: Measure,
  samples: ReadonlyMap<string, readonly Sample[]>,
  { reference, ours }: { readonly reference: string; readonly ours: string },
): Row {
  const valuesOf = (name: string): readonly number[] =>
    (samples.get(name) ?? []).map((sample) => sample[measure.name] ?? Number.NaN);
  const base = valuesOf(reference);
  const results = [...samples.keys()].map((contender): Result => {
    const values = valuesOf(contender);
    const ratios = values.map((value, round) => value / (base[round] ?? Number.NaN));
    return { contender, median: median(values), ratio: median(ratios) };
  });
  return {
    measure,
    results,
    ...verdictOf(
      measure,
      results.find(({ contender }) => contender === ours),
    ),
  };
}

/** Whether Picket is good enough, by its ratio to the reference or by its own value. */
export function verdictOf(
  { better, floor, bound }: Measure,
  ours: { readonly ratio?: number; readonly median?: number } | undefined,
): { readonly isMet?: boolean } {
  const reached = bound === undefined ? ours?.ratio : ours?.median;
  const limit = bound ?? floor;
  if (limit === undefined || reached === undefined) return {};
  return { isMet: better === 'more' ? reached >= limit : reached <= limit };
}

/** A table's row of what only Picket is measured at. */
export function ownRow(measure: Measure, values: readonly number[]): Row {
  return rowOfOne(measure, median(values));
}

/** As `ownRow`, of a value that is one already, such as a quantile. */
export function rowOfOne(measure: Measure, value: number): Row {
  const result = { contender: 'picket', median: value };
  return { measure, results: [result], ...verdictOf(measure, result) };
}
