import { expect } from 'bun:test';
import type { OrdealReport } from './ordeal.ts';

/** Nothing was lost where nothing was in the way, and nothing reached the application undecided or unrecorded. */
export function expectWhole(report: OrdealReport): void {
  expect(report.lost.slice(0, 10)).toEqual([]);
  expect(report.unrecorded.slice(0, 10)).toEqual([]);
  expect(report.untrue.slice(0, 10)).toEqual([]);
  expect(report.disturbances).toBeGreaterThan(0);
  // Most requests must have been answered, or the rest says nothing.
  expect(report.failed).toBeLessThan(report.requests / 2);
}
