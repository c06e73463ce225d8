import { describe, expect, test } from 'bun:test';
import { DerReader } from './der-reader.ts';
import { constructedContextTag, contextTag, DER_TAG } from './der-tag.ts';
import {
  derBitString,
  derBoolean,
  derElement,
  derInteger,
  derNamedBits,
  derObjectIdentifier,
  derOctetString,
  derSequence,
  derTime,
  derUtf8String,
} from './der-writer.ts';

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('DER writer', () => {
  test('derInteger() is read back by DerReader.integer() around every change of width', () => {
    for (let bit = 0n; bit < 160n; bit++)
      for (const value of [(1n << bit) - 1n, 1n << bit, -(1n << bit), -(1n << bit) - 1n])
        expect(new DerReader(derInteger(value)).integer()).toBe(value);
  });

  test('derObjectIdentifier() is read back by DerReader.objectIdentifier()', () => {
    for (const dotted of ['0.0', '0.39', '1.0', '1.39.127.128', '2.5.29.17', '2.47', '2.48', '2.999.3'])
      expect(new DerReader(derObjectIdentifier(dotted)).objectIdentifier()).toBe(dotted);
    const uuidBased = `2.25.${(1n << 128n) - 1n}`;
    expect(new DerReader(derObjectIdentifier(uuidBased)).objectIdentifier()).toBe(uuidBased);
    for (const dotted of ['', '1', '3.1', '1.40', '1.2.', '1.02', 'a.b'])
      expect(() => derObjectIdentifier(dotted)).toThrow(RangeError);
  });

  test('derElement() writes every form of length in its shortest form', () => {
    for (const length of [0, 1, 127, 128, 255, 256, 65_000]) {
      const reader = new DerReader(derOctetString(new Uint8Array(length).fill(7)));
      expect(reader.octetString().length).toBe(length);
      reader.requireEnd();
    }
    expect(hexOf(derOctetString(new Uint8Array(0x1_0000)).subarray(0, 5))).toBe('0483010000');
    expect(hexOf(derOctetString(new Uint8Array(0x100_0000)).subarray(0, 6))).toBe('048401000000');
  });

  test('derNamedBits() leaves trailing zero bits out', () => {
    expect(hexOf(derNamedBits([0]))).toBe('03020780');
    expect(hexOf(derNamedBits([5, 6]))).toBe('03020106');
    expect(hexOf(derNamedBits([8]))).toBe('0303070080');
    expect(hexOf(derNamedBits([]))).toBe('030100');
  });

  test('derTime() is read back to the second, and changes form in 2050', () => {
    for (const iso of ['1950-01-01T00:00:00Z', '2026-02-03T04:05:06Z', '2049-12-31T23:59:59Z'])
      expect(derTime(Date.parse(iso))[0]).toBe(DER_TAG.utcTime);
    expect(derTime(Date.parse('2050-01-01T00:00:00Z'))[0]).toBe(DER_TAG.generalizedTime);
    expect(derTime(Date.parse('1949-12-31T23:59:59Z'))[0]).toBe(DER_TAG.generalizedTime);
    for (const iso of ['1949-06-01T00:00:00Z', '2049-12-31T23:59:59Z', '2050-01-01T00:00:00Z'])
      expect(new DerReader(derTime(Date.parse(iso))).timeMs()).toBe(Date.parse(iso));
    expect(new DerReader(derTime(1999)).timeMs()).toBe(1000);
    expect(() => derTime(Date.UTC(10_000, 0))).toThrow(RangeError);
  });

  test('derSequence() nests every kind of value so that DerReader reads it back', () => {
    const encoded = derSequence(
      derBoolean(true),
      derBitString(Uint8Array.of(1, 2)),
      derUtf8String('é'),
      derElement(contextTag(2), Uint8Array.of(9)),
      derElement(constructedContextTag(3), derBoolean(false)),
    );
    const reader = new DerReader(encoded);
    const inside = reader.sequence();
    reader.requireEnd();
    expect(inside.boolean()).toBe(true);
    expect([...inside.bitString().bytes]).toEqual([1, 2]);
    expect(Buffer.from(inside.element(DER_TAG.utf8String).content).toString()).toBe('é');
    expect([...inside.element(0x82).content]).toEqual([9]);
    expect(inside.constructed(0xa3).boolean()).toBe(false);
    inside.requireEnd();
  });
});
