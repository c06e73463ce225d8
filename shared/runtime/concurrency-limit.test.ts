import { describe, expect, test } from 'bun:test';
import { ConcurrencyLimit } from './concurrency-limit.ts';

describe('ConcurrencyLimit', () => {
  test('tryEnter() counts each key apart and a place is given back once', () => {
    const limit = new ConcurrencyLimit(2);
    const first = limit.tryEnter('a');
    expect(limit.tryEnter('a')).toBeDefined();
    expect(limit.tryEnter('a')).toBeUndefined();
    expect(limit.tryEnter('b')).toBeDefined();
    first?.();
    first?.();
    expect(limit.tryEnter('a')).toBeDefined();
    expect(limit.tryEnter('a')).toBeUndefined();
  });
});
