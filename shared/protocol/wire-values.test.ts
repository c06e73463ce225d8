import { expect, test } from 'bun:test';
import { timestamp } from './wire-values.ts';

test.each([
  ['2026-11-28T09:30:00.123Z', true],
  ['2026-11-28T09:30:00+05:30', true],
  ['0001-01-01T00:00:00Z', true],
  ['9999-12-31T23:59:59.999Z', true],
  ['0000-01-01T00:00:00Z', false],
  ['0001-01-01T00:00:00+00:01', false],
  ['9999-12-31T23:59:59-00:01', false],
  ['2026-02-30T00:00:00Z', false],
  ['2026-11-28', false],
])('timestamp takes %s: %p', (text, isTaken) => {
  expect(timestamp.safeParse(text).success).toBe(isTaken);
});
