import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseRequestPath } from './request-path.ts';

describe('parseRequestPath()', () => {
  test('takes a target apart as the Envoy plugin does', () => {
    expect(parseRequestPath('/api/v1/caf%C3%A9?x=1&x=%32&flag&a+b=c%26d')).toEqual({
      path: '/api/v1/caf%C3%A9',
      query: 'x=1&x=%32&flag&a+b=c%26d',
      parsedPath: ['api', 'v1', 'café'],
      parsedQuery: { x: ['1', '2'], flag: [''], 'a b': ['c&d'] },
    });
    expect(parseRequestPath('/').parsedPath).toEqual(['']);
    expect(parseRequestPath('//admin').parsedPath).toEqual(['admin']);
    expect(parseRequestPath('/a/').parsedPath).toEqual(['a', '']);
    expect(parseRequestPath('*').parsedPath).toEqual(['*']);
  });

  test.each([
    '/public/../admin',
    '/public/%2e%2E/admin',
    '/public/.%2e%2fadmin',
    '/public/..\\admin',
    '/public/..%5cadmin',
    '/.',
    '/a/./b',
    '/..',
    '/%00',
    '/a%0d%0ab',
    '/%zz',
    '/%',
    '/%ff',
    '/a%c3',
  ])('refuses %s, which an application could read as another path', (path) => {
    expect(reasonOf(() => parseRequestPath(path))).toBe('policy_error');
  });

  test('takes dots within names', () => {
    expect(parseRequestPath('/a..b/.well-known/...').parsedPath).toEqual(['a..b', '.well-known', '...']);
  });

  test('keeps what cannot be decoded in a query', () => {
    expect(parseRequestPath('/?discount=100%&b=%zz').parsedQuery).toEqual({ discount: ['100%'], b: ['%zz'] });
    expect(Object.keys(parseRequestPath('/?__proto__=1').parsedQuery)).toEqual(['__proto__']);
  });
});
