import { describe, expect, test } from 'bun:test';
import { classifyFirstBytes, classifyHttp, isHttp2Server } from './http1-detect.ts';

const classify = (text: string): string => classifyFirstBytes(Buffer.from(text, 'latin1'));

describe('classifyFirstBytes()', () => {
  test.each([
    ['GET / HTTP/1.1\r\n'],
    ['GET /'],
    ['get /x'],
    ['X-METHOD /'],
    ['OPTIONS * HTTP/1.1\r\n'],
    ['GET http://a/ HTTP/1.1\r\n'],
    ['GET HTTP://a\n'],
    ['CONNECT a:443 HTTP/1.1\r\n'],
    ['foo bar HTTP/1.0\r\n'],
    ['\r\n\r\nGET /'],
    [' \tGET /'],
    ['GET\t/'],
    ['GET\x0b/admin\x0bHTTP/1.1\r\n'],
    ['GET\xa0/admin'],
    ['GET\r/admin HTTP/1.1\r\n'],
    ['GET \r /admin'],
    ['GET https://a/admin\r\n'],
    [`${'A'.repeat(65)} /admin HTTP/1.1\r\n`],
    ['A'.repeat(9000)],
    ['\n'.repeat(9000)],
    [' \r\n'.repeat(3000)],
    ['PRI * HTTP/1.1\r\n'],
    [`GET ${'x'.repeat(9000)}`],
    [`GET ${' '.repeat(9000)}`],
  ])('takes %j for HTTP/1', (text) => {
    expect(classify(text)).toBe('http1');
  });

  test.each([
    ['\x16\x03\x01'],
    ['\x00\x00\x00\x08\x04\xd2\x16\x2f'],
    ['*1\r\n$4\r\nPING\r\n'],
    ['PING\r\n'],
    ['get key\r\n'],
    ['SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n'],
    ['AMQP\x00\x00\x09\x01'],
    ['\x10\x0c\x00\x04MQTT'],
    ['PING \r\n'],
    [`${'x'.repeat(65)}\r\n`],
    ['GET:/'],
    ['PRI * h.0\r\n'],
  ])('takes %j for something else', (text) => {
    expect(classify(text)).toBe('other');
  });

  test('takes the whole preface for HTTP/2, and nothing that is unlike it', () => {
    expect(classify('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00')).toBe('http2');
    expect(classify('PRI * HTTP/2.0\r\n\r\nSM\r\n\n')).toBe('http1');
    expect(classify('PRI * HTTP/2.0\r\n\r\nSX')).toBe('http1');
  });

  test('waits while both are possible', () => {
    for (const text of [
      '',
      'G',
      'GET',
      'GET ',
      'GET a',
      'get key',
      '\r\n',
      ' ',
      'ruok',
      'GET\r',
      'GET \r',
      'x'.repeat(65),
      'PRI * HTTP/2.0',
      'OPTIONS *',
    ])
      expect(classify(text)).toBe('incomplete');
  });

  test('never takes back a verdict when more bytes come', () => {
    for (const text of [
      'GET /a HTTP/1.1\r\n\r\n',
      '*1\r\n$4\r\n',
      'get key\r\nx',
      'ping\r\n',
      'ping \r\n/',
      'GET\r/a\r\n',
      'foo http://x HTTP/1.1\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ]) {
      const seen = Array.from({ length: text.length + 1 }, (_, length) => classify(text.slice(0, length)));
      const first = seen.findIndex((verdict) => verdict !== 'incomplete');
      expect(new Set(seen.slice(first)).size).toBe(1);
    }
  });
});

describe('classifyHttp()', () => {
  test('knows HTTP/2 by its whole preface, and anything else by its first byte that differs', () => {
    for (const text of ['', 'P', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r'])
      expect(classifyHttp(Buffer.from(text))).toBe('incomplete');
    expect(classifyHttp(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'))).toBe('http2');
    for (const text of ['G', 'PO', '\0', '\r\n', 'PRI * HTTP/2.1'])
      expect(classifyHttp(Buffer.from(text))).toBe('http1');
  });
});

describe('isHttp2Server()', () => {
  const is = (hex: string): boolean => isHttp2Server(Buffer.from(hex, 'hex'));

  test('knows SETTINGS', () => {
    for (const hex of ['000000040000000000', '00000c04000000000000010000', '000180040000000000'])
      expect(is(hex)).toBe(true);
  });

  test('takes no other greeting for it', () => {
    for (const hex of [
      '0000000400000000',
      '000005040000000000',
      '000186040000000000',
      '000000040100000000',
      '000000040000000001',
      '000000000000000000',
      Buffer.from('220 welcome\r\n').toString('hex'),
      '4a0000000a382e302e333300',
    ])
      expect(is(hex)).toBe(false);
  });
});
