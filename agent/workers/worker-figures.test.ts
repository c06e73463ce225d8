import { describe, expect, test } from 'bun:test';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { findMissingWorker, sumMetrics, sumSpools, type MetricsJson } from './worker-figures.ts';

async function figures(count: number, seconds: number): Promise<MetricsJson> {
  const registry = new Registry();
  const registers = [registry];
  new Counter({ name: 'c_total', help: 'c', labelNames: ['of'], registers }).inc({ of: 'a' }, count);
  new Histogram({ name: 's', help: 's', buckets: [1, 2], registers }).observe(seconds);
  const json: unknown = JSON.parse(JSON.stringify(await registry.getMetricsAsJSON()));
  return json as MetricsJson;
}

describe('sumMetrics()', () => {
  test('adds counters and histograms, and keeps what only one has', async () => {
    const own = new Registry();
    new Gauge({ name: 'g', help: 'g', registers: [own] }).set(7);
    const ofAgent = (await own.getMetricsAsJSON()) as unknown as MetricsJson;
    const text = await sumMetrics([ofAgent, await figures(2, 0.5), await figures(3, 1.5)]).metrics();
    expect(text).toContain('c_total{of="a"} 5');
    expect(text).toContain('s_bucket{le="1"} 1');
    expect(text).toContain('s_bucket{le="+Inf"} 2');
    expect(text).toContain('s_sum 2');
    expect(text).toContain('# HELP c_total c');
    expect(text).toContain('g 7');
  });
});

describe('sumSpools()', () => {
  const spool = { epoch: 'a', lastSequence: 4, depth: 1, bytes: 10, refused: 0, isHeldBack: false };

  test('adds the lanes, and tells of one that refuses, or is held back', () => {
    expect(sumSpools([])).toBeUndefined();
    expect(
      sumSpools([spool, { ...spool, depth: 2, refused: 3, refusing: 'disk_full', isHeldBack: true }]),
    ).toEqual({
      ...spool,
      depth: 3,
      bytes: 20,
      refused: 3,
      refusing: 'disk_full',
      isHeldBack: true,
    });
  });
});

describe('findMissingWorker()', () => {
  test('says how many do not run', () => {
    const worker = { worker: 0, pid: 1, isReady: true, restarts: 0, report: undefined };
    expect(findMissingWorker([worker, worker])).toBeUndefined();
    expect(findMissingWorker([worker, { ...worker, isReady: false }])).toContain('1 of 2 workers');
  });
});
