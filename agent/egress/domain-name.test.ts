import { describe, expect, test } from 'bun:test';
import { domainNameOf } from './domain-name.ts';

describe('domainNameOf()', () => {
  test.each([
    ['example.com', 'example.com'],
    ['API.Example.COM', 'api.example.com'],
    ['example.com:8443', 'example.com'],
    ['example.com.', 'example.com'],
    ['xn--caf-dma.example', 'xn--caf-dma.example'],
    ['_dmarc.example.com', '_dmarc.example.com'],
    ['localhost', 'localhost'],
    ['1.2.3.4.example', '1.2.3.4.example'],
    ['a'.repeat(63), 'a'.repeat(63)],
  ])('reads %p as %p', (host, name) => expect(domainNameOf(host)).toBe(name));

  test.each([
    '',
    '.',
    '10.0.0.1',
    '10.0.0.1:80',
    '[::1]',
    '::1',
    '0x7f.1',
    '127.0x1',
    'a..b',
    '.example.com',
    'example.com..',
    'exa mple.com',
    'example.com/path',
    'user@example.com',
    'café.example',
    '-a.example',
    'a-.example',
    '*.example.com',
    'a\0.example',
    'a'.repeat(64),
    `${'a.'.repeat(127)}ab`,
    'example.com:123456',
  ])('takes %p for no name', (host) => expect(domainNameOf(host)).toBeUndefined());
});
