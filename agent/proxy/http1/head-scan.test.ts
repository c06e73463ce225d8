import { describe, expect, test } from 'bun:test';
import { scanHead } from './head-scan.ts';

const HEAD = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n';

describe('scanHead()', () => {
  test('finds the end of a head wherever its bytes are cut', () => {
    const bytes = Buffer.from(`${HEAD}body`);
    for (let length = 0; length < HEAD.length; length += 1) {
      expect(scanHead(bytes.subarray(0, length), 0, 0)).toEqual({ kind: 'incomplete' });
      expect(scanHead(bytes, 0, length)).toEqual({ kind: 'complete', end: HEAD.length });
    }
  });

  test('begins at the start that it is given', () => {
    const bytes = Buffer.from(`x\n\r\n${HEAD}`);
    expect(scanHead(bytes, 4, 4)).toEqual({ kind: 'complete', end: bytes.length });
  });

  test('refuses a line that ends without CR, and an LF that comes first', () => {
    for (const text of [
      'GET / HTTP/1.1\nhost: a\r\n\r\n',
      'GET / HTTP/1.1\r\n\n',
      '\nGET / HTTP/1.1\r\n\r\n',
    ])
      expect(scanHead(Buffer.from(text), 0, 0)).toEqual({ kind: 'malformed' });
  });
});
