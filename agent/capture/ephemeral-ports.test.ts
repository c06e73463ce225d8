import { expect, test } from 'bun:test';
import { findEphemeralPorts, readEphemeralSettings } from './ephemeral-ports.ts';

const PORTS = [443, 32_767, 32_768, 40_000, 60_999, 61_000];

test.each([
  ['32768\t60999\n', '\n', [32_768, 40_000, 60_999]],
  ['32768\t60999\n', '40000\n', [32_768, 60_999]],
  ['32768\t60999\n', '80,32768-40000,60999\n', []],
  ['1024\t32767\n', '', [32_767]],
])('findEphemeralPorts() finds those of the range %p that are not among %p', (range, reserved, found) => {
  expect(findEphemeralPorts(PORTS, { range, reserved })).toEqual(found);
});

test('readEphemeralSettings() reads what the kernel has', () => {
  const settings = readEphemeralSettings();
  const [first = '', last = ''] = settings.range.trim().split(/\s+/);
  expect(findEphemeralPorts([Number(last) + 1], settings)).toEqual([]);
  expect(Number(first)).toBeGreaterThan(0);
});
