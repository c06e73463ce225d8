import { describe, expect, test } from 'bun:test';
import { Histogram, Registry } from 'prom-client';
import { SecondsHistogram } from './seconds-histogram.ts';

const ABOUT = { name: 'picket_test_seconds', help: 'How long it took.' };
const BOUNDS = [0.001, 0.01, 0.1];
const VALUES = [0, 0.0005, 0.001, 0.0011, 0.01, 0.099, 0.1, 0.100_001, 7];

interface Pair {
  readonly ours: Registry;
  readonly theirs: Registry;
}

/** The same values in both kinds, in two of three series. */
function filled(): Pair {
  const [ours, theirs] = [new Registry(), new Registry()];
  const histogram = new SecondsHistogram(ours, { ...ABOUT, bounds: BOUNDS });
  const other = new Histogram({
    ...ABOUT,
    labelNames: ['direction'],
    buckets: BOUNDS,
    registers: [theirs],
  });
  const [inbound, outbound] = ['inbound', 'outbound', 'unused'].map((direction) =>
    histogram.series({ direction }),
  );
  for (const value of VALUES) {
    inbound?.(value);
    other.observe({ direction: 'inbound' }, value);
  }
  outbound?.(0.05);
  other.observe({ direction: 'outbound' }, 0.05);
  return { ours, theirs };
}

describe('SecondsHistogram', () => {
  test('tells what a histogram of prom-client tells', async () => {
    const { ours, theirs } = filled();
    expect(await ours.metrics()).toBe(await theirs.metrics());
    // Theirs has an `exemplar` beside, which is null.
    expect(await theirs.getMetricsAsJSON()).toMatchObject(await ours.getMetricsAsJSON());
  });

  test('begins anew where all metrics do', async () => {
    const { ours } = filled();
    ours.resetMetrics();
    expect(await ours.metrics()).not.toContain('picket_test_seconds_count');
  });
});
