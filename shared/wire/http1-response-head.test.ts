import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseResponseHead, type ResponseFraming } from './http1-response-head.ts';

const PLAIN = { isHead: false, wantsUpgrade: false };

function parse(text: string, request = PLAIN): ResponseFraming {
  const bytes = Buffer.from(`zz${text}`, 'latin1');
  return parseResponseHead(bytes, { start: 2, end: bytes.length }, request);
}

const answer = (status: string, ...lines: readonly string[]): string =>
  [`HTTP/1.1 ${status}`, ...lines, '', ''].join('\r\n');

describe('parseResponseHead()', () => {
  test('finds the framing', () => {
    expect(parse(answer('200 OK', 'Content-Length: 12', 'x: y'))).toEqual({ kind: 'length', bytes: 12 });
    expect(parse(answer('200 OK', 'content-length:12 '))).toEqual({ kind: 'length', bytes: 12 });
    expect(parse(answer('200', 'Transfer-Encoding: chunked'))).toEqual({ kind: 'chunked' });
    expect(parse(answer('404 Not Found', 'a: b'))).toEqual({ kind: 'until_close' });
    expect(parse('HTTP/1.0 200 OK\r\n\r\n')).toEqual({ kind: 'until_close' });
    expect(parse(answer('200 OK', 'Content-Length: 5', 'Content-Length: 5'))).toEqual({
      kind: 'length',
      bytes: 5,
    });
  });

  test('knows the answers without a body', () => {
    const none = { kind: 'length', bytes: 0 } as const;
    expect(parse(answer('204 No Content'))).toEqual(none);
    expect(parse(answer('304 Not Modified', 'Content-Length: 500'))).toEqual(none);
    expect(parse(answer('200 OK', 'Content-Length: 500'), { ...PLAIN, isHead: true })).toEqual(none);
    expect(parse(answer('200 OK', 'Transfer-Encoding: chunked'), { ...PLAIN, isHead: true })).toEqual(none);
    expect(parse(answer('100 Continue'))).toEqual({ kind: 'interim' });
    expect(parse(answer('103 Early Hints', 'link: </x>'))).toEqual({ kind: 'interim' });
  });

  test('accepts 101 only where an upgrade was asked for', () => {
    const request = { isHead: false, wantsUpgrade: true };
    expect(parse(answer('101 Switching Protocols', 'Upgrade: websocket'), request)).toEqual({
      kind: 'upgraded',
    });
    expect(reasonOf(() => parse(answer('101 Switching Protocols')))).toBe('http1_response_refused');
  });

  test.each([
    ['another protocol', 'SSH-2.0-x\r\n\r\n'],
    ['HTTP/2', 'HTTP/2.0 200 OK\r\n\r\n'],
    ['a status of two digits', answer('99')],
    ['a status of four digits', answer('2000 OK')],
    ['a status that begins with zero', answer('099 x')],
    ['length and chunked', answer('200 OK', 'Content-Length: 5', 'Transfer-Encoding: chunked')],
    ['two lengths', answer('200 OK', 'Content-Length: 5', 'Content-Length: 6')],
    ['an odd length', answer('200 OK', 'Content-Length: 5,5')],
    ['another coding', answer('200 OK', 'Transfer-Encoding: gzip')],
    ['chunked twice', answer('200 OK', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked')],
    ['a bare LF in the status line', 'HTTP/1.1 200 OK\nx: y\r\n\r\n'],
    ['a bare LF in a field', 'HTTP/1.1 200 OK\r\nx: y\nContent-Length: 5\r\n\r\n'],
    ['a space before the colon', answer('200 OK', 'Content-Length : 5')],
    ['obs-fold', answer('200 OK', 'x: y', ' z')],
    ['a bare CR in a field', answer('200 OK', 'x: y\rContent-Length: 5')],
    ['a NUL in a field', answer('200 OK', 'x: y\0z')],
  ])('refuses %s', (_name, text) => {
    expect(reasonOf(() => parse(text))).toBe('http1_response_refused');
  });
});
