import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseTrustDomain } from './trust-domain.ts';

describe('parseTrustDomain()', () => {
  test('knows each of 65,536 characters', () => {
    for (let code = 0; code < 0x1_0000; code++) {
      const character = String.fromCharCode(code);
      const reason = reasonOf(() => parseTrustDomain(`a${character}b`));
      expect(reason).toBe(/[a-z0-9._-]/.test(character) ? undefined : 'trust_domain_invalid');
    }
  });

  test('accepts 1 to 255 bytes', () => {
    expect<string>(parseTrustDomain('a')).toBe('a');
    expect(parseTrustDomain('a'.repeat(255)).length).toBe(255);
    for (const text of ['', 'a'.repeat(256), 'a\n', 'spiffe://a'])
      expect(reasonOf(() => parseTrustDomain(text))).toBe('trust_domain_invalid');
  });
});
