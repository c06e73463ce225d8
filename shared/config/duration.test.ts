import { describe, expect, test } from 'bun:test';
import { PicketError } from '../errors/errors.ts';
import { parseDurationSeconds } from './duration.ts';

describe('parseDurationSeconds()', () => {
  test.each([
    ['0s', 0],
    ['30s', 30],
    ['15m', 900],
    ['24h', 86_400],
    ['7d', 604_800],
  ])('parseDurationSeconds() reads %s', (text, seconds) => {
    expect(parseDurationSeconds(text)).toBe(seconds);
  });

  test.each(['', '30', 's', '-1s', '1.5h', '1h30m', ' 1s', '1w', '9999999999s', '1constructor'])(
    'parseDurationSeconds() refuses "%s"',
    (text) => {
      expect(() => parseDurationSeconds(text)).toThrow(PicketError);
    },
  );
});
