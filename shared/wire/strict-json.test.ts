import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseStrictJson } from './strict-json.ts';

const LIMITS = { maxCharacters: 1000 };

describe('parseStrictJson()', () => {
  test('returns what JSON.parse returns', () => {
    const texts = [
      '{}',
      '[1,"a",null,true]',
      '"a\\"b:{"',
      '{"a":{"a":{"a":[{"a":1},{"a":2}]}},"b":"{\\"a\\":1,\\"a\\":2}"}',
      '{"a":"a","b":["a","a"]}',
      ' { "x" : "y" } ',
    ];
    for (const text of texts) expect(parseStrictJson(text, LIMITS)).toEqual(JSON.parse(text));
  });

  test('refuses a member that stands twice, however it is spelled and however deep', () => {
    const texts = [
      '{"a":1,"a":1}',
      '{"a":1,"\\u0061":2}',
      '{"a" : 1, "b": 2, "a" : 3}',
      '{"x":[{"y":{"a":1,"b":{"a":2},"a":3}}]}',
      '{"a":{"a":1},"a":2}',
      '{"":1,"":2}',
      '{"__proto__":1,"__proto__":2}',
    ];
    for (const text of texts) expect(reasonOf(() => parseStrictJson(text, LIMITS))).toBe('json_invalid');
  });

  test('refuses what is not JSON or too long', () => {
    const texts = ['', '{', '{"a":1,}', "{'a':1}", 'NaN', ' '.repeat(1001), '[]x'];
    for (const text of texts) expect(reasonOf(() => parseStrictJson(text, LIMITS))).toBe('json_invalid');
  });

  test('refuses or reads deep nesting without failing otherwise', () => {
    for (const depth of [100, 10_000, 500_000]) {
      const text = '['.repeat(depth) + ']'.repeat(depth);
      expect(reasonOf(() => parseStrictJson(text, { maxCharacters: 2_000_000 }))).toBeOneOf([
        undefined,
        'json_invalid',
      ]);
    }
  });
});
