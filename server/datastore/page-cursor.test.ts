import { expect, test } from 'bun:test';
import { z } from 'zod';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { formatPageCursor, MAX_PAGE_SIZE, parsePageCursor, requirePageSize } from './page-cursor.ts';

const key = z.tuple([z.string(), z.number()]);

test('parsePageCursor() reads what formatPageCursor() wrote', () => {
  expect(parsePageCursor(formatPageCursor(['é"\\', 7]), key)).toEqual(['é"\\', 7]);
});

test('parsePageCursor() refuses anything else', () => {
  const bad = ['', 'x', '%', formatPageCursor(['a']), formatPageCursor([1, 'a']), 'A'.repeat(10_000)];
  bad.push(
    ...[
      ['a', 1.5],
      ['a', 1e30],
      ['a\0', 1],
      ['\ud800', 1],
    ].map((parts) => formatPageCursor(parts)),
  );
  for (const text of bad) expect(reasonOf(() => parsePageCursor(text, key))).toBe('cursor_invalid');
});

test('requirePageSize() holds the limits', () => {
  expect(requirePageSize(undefined)).toBe(100);
  expect(requirePageSize(MAX_PAGE_SIZE)).toBe(MAX_PAGE_SIZE);
  for (const limit of [0, -1, 1.5, Number.NaN, MAX_PAGE_SIZE + 1])
    expect(reasonOf(() => requirePageSize(limit))).toBe('limit_invalid');
});
