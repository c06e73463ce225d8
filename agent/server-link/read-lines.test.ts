import { describe, expect, test } from 'bun:test';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { readLines } from './read-lines.ts';

async function* chunked(text: string, size: number): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function linesOf(chunks: AsyncIterable<Uint8Array>, maxBytes = 100): Promise<string[]> {
  return await Array.fromAsync(readLines(chunks, maxBytes));
}

describe('readLines()', () => {
  const text = 'eins\n\nzwölf – drei\n{"a":1}\nhalf of something';

  test('finds the same lines however the bytes are cut', async () => {
    for (let size = 1; size <= Buffer.byteLength(text); size++)
      expect(await linesOf(chunked(text, size))).toEqual(['eins', '', 'zwölf – drei', '{"a":1}']);
  });

  test('takes a line of exactly the limit and refuses one byte more, ended or not', async () => {
    for (const size of [1, 7, 100]) {
      expect(await linesOf(chunked(`${'x'.repeat(10)}\n`, size), 10)).toEqual(['x'.repeat(10)]);
      for (const end of ['\n', ''])
        expect(await refusalOf(linesOf(chunked('x'.repeat(11) + end, size), 10))).toMatchObject({
          code: 'unavailable',
          reason: 'line_too_long',
        });
    }
  });

  test('of nothing makes nothing', async () => {
    expect(await linesOf(chunked('', 1))).toEqual([]);
  });
});
