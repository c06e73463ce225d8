import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { buildSpiffeId, MAX_SPIFFE_ID_BYTES, parseSpiffeId, pathOf, trustDomainOf } from './spiffe-id.ts';
import { parseTrustDomain } from './trust-domain.ts';

const isIn = (allowed: RegExp, code: number): boolean => allowed.test(String.fromCharCode(code));

function isAccepted(text: string): boolean {
  const reason = reasonOf(() => parseSpiffeId(text));
  if (reason !== undefined) expect(reason).toBe('spiffe_id_invalid');
  return reason === undefined;
}

describe('parseSpiffeId()', () => {
  test('accepts IDs with and without a path and keeps the case of the path', () => {
    for (const text of ['spiffe://a', 'spiffe://a.test/b', 'spiffe://a_b-c.1/Ns/B.c/_-/x', 'spiffe://a/...'])
      expect<string>(parseSpiffeId(text)).toBe(text);
  });

  test('lowers the scheme and the trust domain', () => {
    expect<string>(parseSpiffeId('SPIFFE://Example.ORG/Path')).toBe('spiffe://example.org/Path');
  });

  test('knows each of 65,536 characters in the path and in the trust domain', () => {
    for (let code = 0; code < 0x1_0000; code++) {
      const character = String.fromCharCode(code);
      // In the trust domain a slash begins the path, in the path it ends a segment.
      if (character === '/') continue;
      expect(isAccepted(`spiffe://a/x${character}y`)).toBe(isIn(/[A-Za-z0-9._-]/, code));
      expect(isAccepted(`spiffe://x${character}y/z`)).toBe(isIn(/[A-Za-z0-9._-]/, code));
    }
  });

  test('refuses a letter that only lowering would make one of ours', () => {
    expect(isAccepted('spiffe://\u212a8s.test/x')).toBe(false);
    expect(isAccepted('\u017fpiffe://a/x')).toBe(false);
  });

  test('refuses a trailing slash, empty segments and dot segments', () => {
    for (const path of ['/', '//', '/a/', '/a//b', '/.', '/..', '/a/./b', '/a/../b', '/a/..'])
      expect(isAccepted(`spiffe://a${path}`)).toBe(false);
  });

  test('refuses what a URI could have besides', () => {
    const refused = [
      '',
      'a',
      'spiffe:',
      'spiffe:/a',
      'spiffe://',
      'spiffe:///a',
      'http://a/b',
      ' spiffe://a',
      'spiffe://a ',
      'spiffe://a\n',
      'spiffe://a/b?c',
      'spiffe://a/b#c',
      'spiffe://u@a/b',
      'spiffe://a:80/b',
      'spiffe://[::1]/b',
      'spiffe://%61/b',
      'spiffe://a/%62',
    ];
    for (const text of refused) expect(isAccepted(text)).toBe(false);
  });

  test('accepts 2048 bytes and no more', () => {
    const longest = `spiffe://a/${'b'.repeat(MAX_SPIFFE_ID_BYTES - 11)}`;
    expect(longest.length).toBe(2048);
    expect(isAccepted(longest)).toBe(true);
    expect(isAccepted(`${longest}b`)).toBe(false);
    expect(isAccepted(`spiffe://${'a'.repeat(255)}/b`)).toBe(true);
    expect(isAccepted(`spiffe://${'a'.repeat(256)}/b`)).toBe(false);
  });
});

describe('parts of a SPIFFE ID', () => {
  test('trustDomainOf(), pathOf() and buildSpiffeId() are inverse', () => {
    for (const text of ['spiffe://a.test', 'spiffe://a.test/b', 'spiffe://a.test/b/c']) {
      const id = parseSpiffeId(text);
      expect<string>(trustDomainOf(id)).toBe('a.test');
      expect(buildSpiffeId(trustDomainOf(id), pathOf(id))).toBe(id);
    }
    expect(pathOf(parseSpiffeId('spiffe://a.test'))).toBe('');
  });

  test('buildSpiffeId() refuses a path that would change the trust domain', () => {
    const domain = parseTrustDomain('a.test');
    for (const path of ['.evil/b', 'b', '/b/', '/../b', '@evil/b'])
      expect(reasonOf(() => buildSpiffeId(domain, path))).toBe('spiffe_id_invalid');
  });
});
