import { expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { SEAL_OVERHEAD_BYTES, SealedBox, SealError } from './sealed-box.ts';

const box = new SealedBox({ magic: 'PKT1', context: 'picket-test-1' });
const key = randomBytes(32);
const value = Buffer.from('a private key');

function failureOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof SealError) return error.failure;
    throw error;
  }
  return 'opened';
}

test('SealedBox opens what it sealed, an empty value too', () => {
  const sealed = box.seal(key, 'name', value);
  expect(sealed.length).toBe(value.length + SEAL_OVERHEAD_BYTES);
  expect(Buffer.from(box.open(key, 'name', sealed))).toEqual(value);
  expect(box.open(key, 'name', box.seal(key, 'name', new Uint8Array(0)))).toEqual(new Uint8Array(0));
});

test('SealedBox never seals the same value to the same bytes', () => {
  expect(box.seal(key, 'name', value)).not.toEqual(box.seal(key, 'name', value));
});

test('SealedBox.open refuses every altered bit', () => {
  const sealed = box.seal(key, 'name', value);
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const altered = Uint8Array.from(sealed);
    altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const expected = bit < 32 ? 'not_a_sealed_box' : 'altered_or_other_key';
    expect(failureOf(() => box.open(key, 'name', altered))).toBe(expected);
  }
});

test('SealedBox.open refuses every cut of the box', () => {
  const sealed = box.seal(key, 'name', value);
  for (let length = 0; length < sealed.length; length++)
    expect(failureOf(() => box.open(key, 'name', sealed.subarray(0, length)))).not.toBe('opened');
});

test('SealedBox.open refuses another name, another key and another kind', () => {
  const sealed = box.seal(key, 'name', value);
  const other = new SealedBox({ magic: 'PKT1', context: 'picket-other-1' });
  expect(failureOf(() => box.open(key, 'other', sealed))).toBe('altered_or_other_key');
  expect(failureOf(() => box.open(randomBytes(32), 'name', sealed))).toBe('altered_or_other_key');
  expect(failureOf(() => other.open(key, 'name', sealed))).toBe('altered_or_other_key');
});

test('SealedBox takes a magic of four characters only', () => {
  expect(() => new SealedBox({ magic: 'PK', context: 'x' })).toThrow(RangeError);
});
