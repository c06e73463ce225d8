import { describe, expect, test } from 'bun:test';
import { ByteReader } from './byte-reader.ts';

const EIGHT = Uint8Array.of(0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0xff);

describe('ByteReader', () => {
  test('u8() returns every byte value', () => {
    const all = Uint8Array.from({ length: 256 }, (_, index) => index);
    const reader = new ByteReader(all);
    for (let value = 0; value < 256; value++) expect(reader.u8()).toBe(value);
    reader.requireEnd();
  });

  test('u16(), u32() and u64() are big endian and unsigned', () => {
    expect(new ByteReader(EIGHT).u16()).toBe(0x8001);
    expect(new ByteReader(EIGHT).u32()).toBe(0x8001_0203);
    expect(new ByteReader(EIGHT).u64()).toBe(0x8001_0203_0405_06ffn);
  });

  test('the constructor honours the offset of a view into a larger buffer', () => {
    const reader = new ByteReader(EIGHT.subarray(2, 5));
    expect(reader.remaining).toBe(3);
    expect(reader.u16()).toBe(0x0203);
    expect(reader.offset).toBe(2);
    expect([...reader.rest()]).toEqual([0x04]);
    reader.requireEnd();
  });

  test('bytes() gives a view of the input, and peekU8() does not move', () => {
    const reader = new ByteReader(EIGHT);
    expect(reader.peekU8()).toBe(0x80);
    const view = reader.bytes(3);
    expect(view.buffer).toBe(EIGHT.buffer);
    expect([...view]).toEqual([0x80, 0x01, 0x02]);
    expect(reader.remaining).toBe(5);
  });

  test('every read refuses every input that is too short, and stays where it was', () => {
    const reads: readonly [number, (reader: ByteReader) => unknown][] = [
      [1, (reader) => reader.u8()],
      [1, (reader) => reader.peekU8()],
      [2, (reader) => reader.u16()],
      [4, (reader) => reader.u32()],
      [8, (reader) => reader.u64()],
      [5, (reader) => reader.bytes(5)],
    ];
    for (const [width, read] of reads)
      for (let length = 0; length < width; length++) {
        const reader = new ByteReader(EIGHT.subarray(0, length));
        expect(() => read(reader)).toThrow(
          expect.objectContaining({ code: 'invalid_argument', reason: 'truncated' }),
        );
        expect(reader.offset).toBe(0);
      }
  });

  test('bytes() refuses a length that is not a whole number', () => {
    for (const length of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => new ByteReader(EIGHT).bytes(length)).toThrow(RangeError);
  });

  test('requireEnd() refuses what is left', () => {
    const reader = new ByteReader(EIGHT);
    reader.bytes(7);
    expect(() => reader.requireEnd()).toThrow(
      expect.objectContaining({ code: 'invalid_argument', reason: 'trailing_bytes' }),
    );
  });
});
