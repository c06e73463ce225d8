import { describe, expect, test } from 'bun:test';
import { availableParallelism } from 'node:os';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { countLanes, countWorkers, type LaneSettings } from './count-workers.ts';

const MIB = 1024 * 1024;
const config = (workers: number | 'auto', maxBytes: number, decidesUdp = false): LaneSettings => ({
  proxy: { workers },
  audit: { maxBytes },
  egress: { decidesUdp },
  capture: { isEnabled: true },
});

describe('countWorkers()', () => {
  test('is what the configuration says, or the number of cores', () => {
    expect(countWorkers(config(3, 48 * MIB))).toBe(3);
    expect(countWorkers(config('auto', 1024 * MIB))).toBe(Math.min(64, availableParallelism()));
  });

  test('refuses a spool that is too small for so many lanes', () => {
    expect(reasonOf(() => countWorkers(config(3, 47 * MIB)))).toBe('config_invalid');
    expect(countWorkers(config(3, 64 * MIB, true))).toBe(3);
    expect(reasonOf(() => countWorkers(config(3, 63 * MIB, true)))).toBe('config_invalid');
  });
});

test('countLanes() has one for the agent itself only where it decides on UDP beside workers', () => {
  expect(countLanes(config(3, 64 * MIB))).toBe(3);
  expect(countLanes(config(3, 64 * MIB, true))).toBe(4);
  expect(countLanes(config(1, 64 * MIB, true))).toBe(1);
  expect(countLanes({ ...config(3, 64 * MIB, true), capture: { isEnabled: false } })).toBe(3);
});
