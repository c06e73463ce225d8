import { describe, expect, test } from 'bun:test';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';

describe('ByteWriter', () => {
  test('toBytes() gives what ByteReader reads back', () => {
    const written = new ByteWriter()
      .u8(0xfe)
      .u16(0x8001)
      .u32(0xffff_fffe)
      .u64(0xffff_ffff_ffff_fffdn)
      .bytes(Uint8Array.of(1, 2, 3))
      .toBytes();
    const reader = new ByteReader(written);
    expect(reader.u8()).toBe(0xfe);
    expect(reader.u16()).toBe(0x8001);
    expect(reader.u32()).toBe(0xffff_fffe);
    expect(reader.u64()).toBe(0xffff_ffff_ffff_fffdn);
    expect([...reader.rest()]).toEqual([1, 2, 3]);
  });

  test('it grows past its first capacity without losing anything', () => {
    const writer = new ByteWriter();
    for (let index = 0; index < 1000; index++) writer.u16(index);
    expect(writer.length).toBe(2000);
    const reader = new ByteReader(writer.toBytes());
    for (let index = 0; index < 1000; index++) expect(reader.u16()).toBe(index);
    reader.requireEnd();
  });

  test('toBytes() is a copy that later writes do not change', () => {
    const writer = new ByteWriter().u8(1);
    const first = writer.toBytes();
    writer.u8(2);
    expect([...first]).toEqual([1]);
    expect([...writer.toBytes()]).toEqual([1, 2]);
  });

  test('a value that does not fit its width is refused', () => {
    const writer = new ByteWriter();
    for (const value of [-1, 0.5, 256, Number.NaN]) expect(() => writer.u8(value)).toThrow(RangeError);
    expect(() => writer.u16(0x1_0000)).toThrow(RangeError);
    expect(() => writer.u32(0x1_0000_0000)).toThrow(RangeError);
    expect(() => writer.u64(-1n)).toThrow(RangeError);
    expect(() => writer.u64(1n << 64n)).toThrow(RangeError);
    expect(writer.length).toBe(0);
  });

  test('a message may fill its limit and not exceed it', () => {
    const writer = new ByteWriter({ limitBytes: 4 }).u32(7);
    expect(() => writer.u8(0)).toThrow(RangeError);
    expect(() => writer.bytes(Uint8Array.of(1))).toThrow(RangeError);
    expect([...writer.toBytes()]).toEqual([0, 0, 0, 7]);
  });
});
