import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { decodeUuid, encodeUuid } from './uuid.ts';

describe('uuid', () => {
  test('decodeUuid() undoes encodeUuid()', () => {
    const text = '0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff';
    expect(Buffer.from(encodeUuid(text)).toString('hex')).toBe(text.replaceAll('-', ''));
    expect(decodeUuid(encodeUuid(text))).toBe(text);
    expect(decodeUuid(new Uint8Array([1, 2, ...encodeUuid(text), 3]), 2)).toBe(text);
  });

  test('encodeUuid() refuses other spellings', () => {
    for (const text of ['', '0F1E2D3C-4B5A-4978-8695-A4B3C2D1E0FF', '0f1e2d3c4b5a49788695a4b3c2d1e0ff', 'x'])
      expect(reasonOf(() => encodeUuid(text))).toBe('uuid_invalid');
  });

  test('decodeUuid() refuses to read past the end', () => {
    expect(() => decodeUuid(new Uint8Array(16), 1)).toThrow(RangeError);
    expect(() => decodeUuid(new Uint8Array(15))).toThrow(RangeError);
  });
});
