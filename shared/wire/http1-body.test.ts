import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { BodyFollower } from './http1-body.ts';

/** Where the first body of `text` ends when it comes in pieces of `size` bytes; undefined while it goes on. */
function endOf(text: string, begin: (follower: BodyFollower) => void, size = 1 << 20): number | undefined {
  const bytes = Buffer.from(text, 'latin1');
  const follower = new BodyFollower();
  begin(follower);
  for (let at = 0; at < bytes.length && follower.isInBody; at += size) {
    const piece = bytes.subarray(at, at + size);
    const end = follower.follow(piece, 0);
    if (!follower.isInBody) return at + end;
    expect(end).toBe(piece.length);
  }
  return undefined;
}

const chunked = (follower: BodyFollower): void => follower.beginChunked();
const isRefused = (text: string): boolean => reasonOf(() => endOf(text, chunked)) === 'http1_body_refused';

describe('BodyFollower', () => {
  test('follows a length', () => {
    const begin = (follower: BodyFollower): void => follower.beginLength(5);
    for (const size of [1, 2, 3, 5, 100]) expect(endOf('helloGET', begin, size)).toBe(5);
    expect(endOf('hell', begin)).toBeUndefined();
    const none = new BodyFollower();
    none.beginLength(0);
    expect(none.isInBody).toBe(false);
  });

  test('follows chunks, extensions and trailers in pieces of any size', () => {
    const body =
      '5\r\nhello\r\nA;name="v"\r\n0123456789\r\n00F \t;x\r\n012345678901234\r\n0\r\nx-sum: 1\r\ny: \r\n\r\n';
    for (let size = 1; size <= body.length + 8; size++)
      expect(endOf(`${body}GET / HT`, chunked, size)).toBe(body.length);
    for (let cut = 0; cut < body.length; cut++) expect(endOf(body.slice(0, cut), chunked)).toBeUndefined();
  });

  test('follows one message after another', () => {
    const bytes = Buffer.from('0\r\n\r\n3\r\nabc\r\n0\r\n\r\nxy');
    const follower = new BodyFollower();
    follower.beginChunked();
    const first = follower.follow(bytes, 0);
    follower.beginChunked();
    const second = follower.follow(bytes, first);
    follower.beginLength(2);
    expect([first, second, follower.follow(bytes, second)]).toEqual([5, 18, 20]);
  });

  test('never ends an endless body', () => {
    const follower = new BodyFollower();
    follower.beginEndless();
    expect(follower.follow(Buffer.from('0\r\n\r\n'), 0)).toBe(5);
    expect([follower.isInBody, follower.isEndless]).toEqual([true, true]);
  });

  test.each([
    ['a size with a prefix', '0x5\r\nhello\r\n'],
    ['a signed size', '+5\r\nhello\r\n'],
    ['no size', '\r\nhello\r\n'],
    ['a size of nine digits', '000000005\r\nhello\r\n'],
    ['a leading space', ' 5\r\nhello\r\n'],
    ['a bare LF after the size', '5\nhello\r\n'],
    ['a bare CR after the size', '5\rhello\r\n'],
    ['a chunk that is too long', '5\r\nhello!\r\n'],
    ['a bare LF after the chunk', '5\r\nhello\n0\r\n'],
    ['a control character in an extension', '5;\x00\r\nhello\r\n'],
    ['a LF in an extension', '5;a\nb\r\nhello\r\n'],
    ['a long extension', `5;${'x'.repeat(4097)}\r\nhello\r\n`],
    ['the identity header as a trailer', '0\r\nX-Forwarded-Client-Cert: a\r\n\r\n'],
    ['its underscored spelling', '0\r\nx_forwarded_client_cert: a\r\n\r\n'],
    ['a length as a trailer', '0\r\nContent-Length: 5\r\n\r\n'],
    ['the underscored spelling of a length', '0\r\nContent_Length: 5\r\n\r\n'],
    ['a host as a trailer', '0\r\nhost: a\r\n\r\n'],
    ['a folded trailer', '0\r\nx: 1\r\n 2\r\n\r\n'],
    ['a trailer with a bare LF', '0\r\nx: 1\n\r\n'],
    ['a trailer without colon', '0\r\nx\r\n\r\n'],
    ['an empty line that is bare', '0\r\n\n'],
    ['long trailers', `0\r\n${'x: 1234567890\r\n'.repeat(1200)}\r\n`],
    ['one endless trailer', `0\r\nx: ${'y'.repeat(17_000)}`],
  ])('refuses %s', (_name, text) => {
    expect(isRefused(text)).toBe(true);
  });

  test('accepts after a size exactly what may stand there', () => {
    for (let byte = 0; byte < 256; byte++) {
      const character = String.fromCharCode(byte);
      const allowed = /[0-9A-Fa-f\r; \t]/.test(character);
      expect([byte, isRefused(`1${character}`)]).toEqual([byte, !allowed]);
    }
  });
});
