import { expect, test } from 'bun:test';
import type { AnsweredRequest } from '../../../shared/wire/http1-response-head.ts';
import { ResponseReader } from './responses.ts';

const GET: AnsweredRequest = { isHead: false, wantsUpgrade: false };
const HEAD: AnsweredRequest = { isHead: true, wantsUpgrade: false };
const UPGRADE: AnsweredRequest = { isHead: false, wantsUpgrade: true };

/** Lets a reader take the answers to requests, and tells for each which bytes went to the client and what they ended in. */
function answersOf(exchanges: readonly (readonly [AnsweredRequest, ...string[]])[]): readonly string[] {
  const reader = new ResponseReader();
  return exchanges.map(([request, ...pieces]) => {
    let told = '';
    reader.expect(request);
    for (const piece of pieces)
      reader.take(Buffer.from(piece), {
        onBytes: (bytes) => (told += Buffer.from(bytes).toString()),
        isLast: () => false,
        onComplete: () => (told += '<complete>'),
      });
    return reader.isUpgraded ? `${told}<upgraded>` : told;
  });
}

const HELLO = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n';

test('the same head means the same again, with another body', () => {
  expect(
    answersOf([
      [GET, `${HELLO}hello`],
      [GET, `${HELLO}HELLO`],
      [GET, HELLO.slice(0, 9), HELLO.slice(9), 'he', 'llo'],
    ]),
  ).toEqual([`${HELLO}hello<complete>`, `${HELLO}HELLO<complete>`, `${HELLO}hello<complete>`]);
});

test('a head that came for a GET has no body for a HEAD, and the other way about', () => {
  expect(
    answersOf([
      [GET, `${HELLO}hello`],
      [HEAD, HELLO],
      [GET, `${HELLO}hello`],
    ]),
  ).toEqual([`${HELLO}hello<complete>`, `${HELLO}<complete>`, `${HELLO}hello<complete>`]);
  expect(() =>
    answersOf([
      [GET, `${HELLO}hello`],
      [HEAD, `${HELLO}hello`],
    ]),
  ).toThrow('more than was asked');
});

test('a switch of protocols that came for one who asked for it is refused to one who did not', () => {
  const switching = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n';
  expect(answersOf([[UPGRADE, `${switching}bytes`]])).toEqual([`${switching}bytes<upgraded>`]);
  expect(() => answersOf([[GET, switching]])).toThrow('101 was not asked for');
});

test('a head that begins like the last one and goes on is read by itself', () => {
  const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
  expect(
    answersOf([
      [GET, `${HELLO}hello`],
      [GET, `${HELLO.slice(0, -2)}X: y\r\n\r\nhello`],
      [GET, `${chunked}2\r\nhi\r\n0\r\n\r\n`],
      [GET, `${chunked}0\r\n\r\n`],
    ]),
  ).toEqual([
    `${HELLO}hello<complete>`,
    `${HELLO.slice(0, -2)}X: y\r\n\r\nhello<complete>`,
    `${chunked}2\r\nhi\r\n0\r\n\r\n<complete>`,
    `${chunked}0\r\n\r\n<complete>`,
  ]);
  expect(() =>
    answersOf([
      [GET, `${HELLO}hello`],
      [GET, `${HELLO.slice(0, -2)}Content-Length: 6\r\n\r\n`],
    ]),
  ).toThrow();
});

test('what stands behind an answer becomes no answer to what follows', () => {
  expect(() => answersOf([[GET, `${HELLO}hello${HELLO}`]])).toThrow('more than was asked');
});
