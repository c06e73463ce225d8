import { expect, test } from 'bun:test';
import { z } from 'zod';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  cutPage,
  formatPageCursor,
  MAX_PAGE_SIZE,
  parseNameCursor,
  parsePageCursor,
  requirePageSize,
} from './page-cursor.ts';

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

test('cutPage() tells of a next page only where a row is left for it', () => {
  const cut = (count: number): unknown =>
    cutPage(
      Array.from({ length: count }, (_, i) => ({ name: `n${i}` })),
      { limit: 2, keyOf: ({ name }) => [name] },
    );
  expect(cut(0)).toEqual({ page: [], next: {} });
  expect(cut(2)).toEqual({ page: [{ name: 'n0' }, { name: 'n1' }], next: {} });
  const nextCursor = formatPageCursor(['n1']);
  expect(cut(3)).toEqual({ page: [{ name: 'n0' }, { name: 'n1' }], next: { nextCursor } });
  expect(parseNameCursor(nextCursor)).toBe('n1');
});

test('parseNameCursor() reads a first page as one behind no name, and refuses what is no name', () => {
  expect(parseNameCursor(undefined)).toBeUndefined();
  for (const cursor of ['', formatPageCursor([1]), formatPageCursor(['a', 'b'])])
    expect(reasonOf(() => parseNameCursor(cursor))).toBe('cursor_invalid');
});
