import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseRequestTarget } from './http1-target.ts';

const isRefused = (target: string, method = 'GET'): boolean =>
  reasonOf(() => parseRequestTarget(method, target)) === 'http1_target_refused';

describe('parseRequestTarget()', () => {
  test('gives path and query as they are', () => {
    for (const path of [
      '/',
      '/invoices',
      '/a/b/',
      '/a.b/..c/c..',
      '/a?x=/../%2e%2F//y',
      '/%C3%A9/%20',
      '/%E9',
      '/%C0/%E0%A0%80/%F0%90%80%80',
      '/a;v=1/b',
      '/%25',
      '/%3B',
      '/?',
    ])
      expect(parseRequestTarget('GET', path)).toEqual({ path, authority: null });
  });

  test('gives the path of an http URL and its authority in lower case', () => {
    expect(parseRequestTarget('GET', 'http://Shop.test:80/a?b')).toEqual({
      path: '/a?b',
      authority: 'shop.test:80',
    });
    expect(parseRequestTarget('GET', 'HTTP://[fd00::1]')).toEqual({ path: '/', authority: '[fd00::1]' });
  });

  test('refuses dot segments in every spelling, also those of servlet containers', () => {
    for (const path of [
      '/..',
      '/.',
      '/a/../b',
      '/a/./b',
      '/a/..',
      '/..;/a',
      '/a/..;x=1/b',
      '/.;/a',
      '/%2e%2e/a',
      '/%2E/a',
      '/.%2e/a',
    ])
      expect(isRefused(path)).toBe(true);
  });

  test('refuses characters in more bytes than they have', () => {
    for (const path of ['/a%c0%afb', '/%C1%9C', '/%E0%80%AF', '/%e0%9f%bf', '/%F0%80%80%af', '/%F0%8F%BF%BF'])
      expect(isRefused(path)).toBe(true);
    expect(isRefused('/a?%c0%af')).toBe(false);
  });

  test('refuses empty segments', () => {
    for (const path of ['//', '//a', '/a//b', '/a//', 'http://a//b']) expect(isRefused(path)).toBe(true);
  });

  test('refuses more segments and parameters than programs take', () => {
    expect(isRefused('/a'.repeat(256))).toBe(false);
    expect(isRefused('/a'.repeat(257))).toBe(true);
    expect(isRefused(`/?${'a&'.repeat(1023)}`)).toBe(false);
    expect(isRefused(`/?${'a&'.repeat(1024)}`)).toBe(true);
  });

  test('refuses exactly the escapes that servers read differently, for all 256 bytes', () => {
    for (let byte = 0; byte < 256; byte++) {
      const character = String.fromCharCode(byte);
      const expected = byte < 0x20 || byte === 0x7f || /[A-Za-z0-9\-._~/\\]/.test(character);
      const hex = byte.toString(16).padStart(2, '0');
      expect([hex, isRefused(`/a%${hex}b`)]).toEqual([hex, expected]);
      expect([hex, isRefused(`/a%${hex.toUpperCase()}b`)]).toEqual([hex, expected]);
      expect([hex, isRefused(`/a?q=%${hex}`)]).toEqual([hex, false]);
    }
  });

  test('refuses percent signs that begin no escape', () => {
    for (const path of ['/%', '/%2', '/%zz', '/a?%', '/a?%4', '/%u0041']) expect(isRefused(path)).toBe(true);
  });

  test('refuses CONNECT, other schemes, and targets without a path', () => {
    expect(isRefused('a.test:443', 'CONNECT')).toBe(true);
    expect(isRefused('/', 'CONNECT')).toBe(true);
    for (const target of [
      'a',
      'a.test:80',
      'https://a/',
      'ftp://a/',
      'http:/a',
      'http:///a',
      'http://a?b',
      'http://u@a/',
      'http://a:port/',
      '?a',
    ])
      expect(isRefused(target)).toBe(true);
  });

  test('allows * for OPTIONS only', () => {
    expect(parseRequestTarget('OPTIONS', '*').path).toBe('*');
    expect(isRefused('*')).toBe(true);
  });
});
