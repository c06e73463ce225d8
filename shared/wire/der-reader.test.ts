import { describe, expect, test } from 'bun:test';
import { PicketError } from '../errors/errors.ts';
import { DerReader, MAX_DER_BYTES, MAX_DER_DEPTH } from './der-reader.ts';
import { DER_TAG } from './der-tag.ts';
import { derSequence } from './der-writer.ts';

const DER_INVALID: unknown = expect.objectContaining({ code: 'invalid_argument', reason: 'der_invalid' });
const TRUNCATED: unknown = expect.objectContaining({ code: 'invalid_argument', reason: 'truncated' });

function read(hex: string): DerReader {
  return new DerReader(Buffer.from(hex, 'hex'));
}

describe('DerReader', () => {
  test('integer() reads the examples of X.690 and refuses longer spellings', () => {
    const vectors: readonly [string, bigint][] = [
      ['020100', 0n],
      ['02017f', 127n],
      ['02020080', 128n],
      ['02020100', 256n],
      ['020180', -128n],
      ['0202ff7f', -129n],
      ['0209008000000000000000', 1n << 63n],
    ];
    for (const [hex, value] of vectors) expect(read(hex).integer()).toBe(value);
    for (const hex of ['0200', '0202007f', '0202ffff', '0202ff80'])
      expect(() => read(hex).integer()).toThrow(DER_INVALID);
  });

  test('objectIdentifier() reads small, large and UUID-based arcs', () => {
    const vectors: readonly [string, string][] = [
      ['06062a864886f70d', '1.2.840.113549'],
      ['0603883703', '2.999.3'],
      ['06082a8648ce3d040302', '1.2.840.10045.4.3.2'],
      ['0603551d11', '2.5.29.17'],
      // The example of X.667, urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6.
      ['06146983f09da7ebcfdee0c7a1a7b2c0948cc8f9d776', '2.25.329800735698586629295641978511506172918'],
    ];
    for (const [hex, dotted] of vectors) expect(read(hex).objectIdentifier()).toBe(dotted);
    for (const hex of ['0600', '06022a86', '06032a8001', `0615${'ff'.repeat(20)}7f`])
      expect(() => read(hex).objectIdentifier()).toThrow(DER_INVALID);
  });

  test('boolean() knows 00 and FF of all 256 bytes', () => {
    for (let byte = 0; byte < 256; byte++) {
      const reader = new DerReader(Uint8Array.of(DER_TAG.boolean, 1, byte));
      if (byte === 0 || byte === 0xff) expect(reader.boolean()).toBe(byte === 0xff);
      else expect(() => reader.boolean()).toThrow(DER_INVALID);
    }
  });

  test('bitString() refuses set unused bits and impossible counts', () => {
    expect(read('03020780').bitString()).toEqual({ bytes: Buffer.of(0x80), unusedBits: 7 });
    expect(read('030100').bitString().bytes.length).toBe(0);
    for (const hex of ['03020781', '030207ff', '03020880', '030101'])
      expect(() => read(hex).bitString()).toThrow(DER_INVALID);
    expect(() => read('0300').bitString()).toThrow(TRUNCATED);
  });

  test('timeMs() reads UTCTime and GeneralizedTime and refuses every other form', () => {
    const vectors: readonly [number, string, string][] = [
      [0x17, '491231235959Z', '2049-12-31T23:59:59Z'],
      [0x17, '500101000000Z', '1950-01-01T00:00:00Z'],
      [0x18, '20500101000000Z', '2050-01-01T00:00:00Z'],
      [0x18, '99991231235959Z', '9999-12-31T23:59:59Z'],
      [0x17, '240229120000Z', '2024-02-29T12:00:00Z'],
    ];
    for (const [tag, text, iso] of vectors) expect(timeReader(tag, text).timeMs()).toBe(Date.parse(iso));
    const refused: readonly [number, string][] = [
      [0x17, '230229120000Z'],
      [0x17, '240001000000Z'],
      [0x17, '241301000000Z'],
      [0x17, '240101240000Z'],
      [0x17, '240101000060Z'],
      [0x17, '2401010000Z'],
      [0x17, '240101000000+0100'],
      [0x18, '20240101000000.5Z'],
      [0x18, '240101000000Z'],
      [0x16, '240101000000Z'],
    ];
    for (const [tag, text] of refused) expect(() => timeReader(tag, text).timeMs()).toThrow(DER_INVALID);
  });

  test('any() refuses indefinite, oversized and needlessly long lengths', () => {
    for (const hex of ['3080', '308100', '30817f', '30820080', '3083000100', '308500000000ff', '30ff'])
      expect(() => read(hex + '00'.repeat(300)).any()).toThrow(DER_INVALID);
    expect(read(`308180${'00'.repeat(128)}`).any().content.length).toBe(128);
    expect(() => read('3084ffffffff00').any()).toThrow(TRUNCATED);
  });

  test('any() refuses the reserved identifier and those of more than one byte', () => {
    for (const tag of [0x00, 0x1f, 0x3f, 0x9f, 0xbf, 0xff])
      expect(() => new DerReader(Uint8Array.of(tag, 0)).any()).toThrow(DER_INVALID);
  });

  test('element() gives views of the input with and without their header', () => {
    const reader = read('0201050403616263');
    expect(reader.element(DER_TAG.integer).encoded).toEqual(Buffer.from('020105', 'hex'));
    expect(reader.optional(DER_TAG.boolean)).toBeUndefined();
    const element = reader.optional(DER_TAG.octetString);
    expect(element?.content).toEqual(Buffer.from('abc'));
    expect(reader.nextTag()).toBeUndefined();
    reader.requireEnd();
    expect(() => reader.element(DER_TAG.integer)).toThrow(DER_INVALID);
  });

  test('requireEnd() refuses what is left inside a sequence', () => {
    const inside = read('3003020105').sequence();
    expect(() => inside.requireEnd()).toThrow(expect.objectContaining({ reason: 'trailing_bytes' }));
  });

  test('sequence() stops at its greatest depth', () => {
    let nested: Uint8Array = derSequence();
    for (let level = 0; level < MAX_DER_DEPTH; level++) nested = derSequence(nested);
    const descend = (): void => {
      let reader = new DerReader(nested);
      for (let level = 0; level <= MAX_DER_DEPTH; level++) reader = reader.sequence();
    };
    expect(descend).toThrow(DER_INVALID);
  });

  test('the constructor refuses an input beyond its limit', () => {
    expect(() => new DerReader(new Uint8Array(MAX_DER_BYTES + 1))).toThrow(DER_INVALID);
  });

  test('no input of one to three bytes does anything but be read or refused', () => {
    for (let first = 0; first < 256; first++)
      for (let second = 0; second < 256; second++) {
        const reader = new DerReader(Uint8Array.of(first, second, 0x01));
        expect(refusalOf(() => reader.any())).toBeOneOf([undefined, 'der_invalid', 'truncated']);
      }
  });
});

function timeReader(tag: number, text: string): DerReader {
  return new DerReader(Uint8Array.of(tag, text.length, ...Buffer.from(text)));
}

function refusalOf(act: () => unknown): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof PicketError) return error.reason;
    throw error;
  }
}
