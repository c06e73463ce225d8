import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { areSelectorsEarned, MAX_SELECTOR_BYTES, parseSelector } from './selector.ts';

describe('parseSelector()', () => {
  test('accepts type:value with more colons and any letters in the value', () => {
    for (const text of ['unix:uid:1000', 'unix:path:/usr/bin/düse', 'tpm:pub_hash:00ff', 'a:b c', 'a::'])
      expect<string>(parseSelector(text)).toBe(text);
  });

  test('refuses a missing part and an upper-case type', () => {
    for (const text of ['', 'a', ':', 'a:', ':b', 'A:b', 'a-b:c', ' a:b', 'a :b'])
      expect(reasonOf(() => parseSelector(text))).toBe('selector_invalid');
  });

  test('refuses every control character in the value, so that no log line can be forged', () => {
    for (let code = 0; code < 0x100; code++) {
      const isControl = code < 0x20 || (code >= 0x7f && code < 0xa0);
      const text = `unix:path:/a${String.fromCharCode(code)}b`;
      expect(reasonOf(() => parseSelector(text))).toBe(isControl ? 'selector_invalid' : undefined);
    }
  });

  test('counts bytes, not characters, against its limit', () => {
    expect(parseSelector(`a:${'b'.repeat(MAX_SELECTOR_BYTES - 2)}`).length).toBe(MAX_SELECTOR_BYTES);
    for (const text of [`a:${'b'.repeat(MAX_SELECTOR_BYTES - 1)}`, `a:${'é'.repeat(MAX_SELECTOR_BYTES / 2)}`])
      expect(reasonOf(() => parseSelector(text))).toBe('selector_invalid');
  });
});

describe('areSelectorsEarned()', () => {
  const [a, b, c] = ['t:a', 't:b', 't:c'].map(parseSelector);

  test('asks for all and is content with more', () => {
    expect(areSelectorsEarned([a!], new Set([a!, b!]))).toBe(true);
    expect(areSelectorsEarned([a!, b!], new Set([b!, a!, c!]))).toBe(true);
    expect(areSelectorsEarned([a!, c!], new Set([a!, b!]))).toBe(false);
  });

  test('gives nothing to whoever asks for nothing or has nothing', () => {
    expect(areSelectorsEarned([], new Set([a!]))).toBe(false);
    expect(areSelectorsEarned([], new Set())).toBe(false);
    expect(areSelectorsEarned([a!], new Set())).toBe(false);
  });
});
