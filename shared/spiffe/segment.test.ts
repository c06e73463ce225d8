import { describe, expect, test } from 'bun:test';
import { isInSegment, segmentsOf } from './segment.ts';
import { parseSpiffeId } from './spiffe-id.ts';

const id = (text: string) => parseSpiffeId(`spiffe://example.org${text}`);

describe('isInSegment()', () => {
  test.each([
    ['/ns/a', '/ns/a'],
    ['/ns/a/sa/x', '/ns/a'],
    ['/ns/a/sa/x', '/ns'],
    ['/ns', ''],
    ['', ''],
  ])('finds %p in %p', (inner, segment) => {
    expect(isInSegment(id(inner), id(segment))).toBe(true);
  });

  test.each([
    ['/ns/ab', '/ns/a'],
    ['/ns/a.b', '/ns/a'],
    ['/ns/a-b/sa/x', '/ns/a'],
    ['/ns', '/ns/a'],
    ['/NS/a', '/ns/a'],
    ['/x/ns/a', '/ns/a'],
  ])('does not find %p in %p', (inner, segment) => {
    expect(isInSegment(id(inner), id(segment))).toBe(false);
  });

  test('knows trust domains apart whose names begin alike', () => {
    for (const domain of ['example.org.evil', 'example.orgs', 'sub.example.org'])
      expect(isInSegment(parseSpiffeId(`spiffe://${domain}/ns/a`), id(''))).toBe(false);
  });
});

describe('segmentsOf()', () => {
  test('gives every segment that isInSegment() finds an ID in, and no other', () => {
    expect([...segmentsOf(id('/ns/a/sa/x'))]).toEqual([
      id('/ns/a/sa/x'),
      id('/ns/a/sa'),
      id('/ns/a'),
      id('/ns'),
      id(''),
    ]);
    expect([...segmentsOf(id('/a'))]).toEqual([id('/a'), id('')]);
    expect([...segmentsOf(id(''))]).toEqual([id('')]);
    for (const segment of segmentsOf(id('/ns/a/sa/x')))
      expect(isInSegment(id('/ns/a/sa/x'), segment)).toBe(true);
  });
});
