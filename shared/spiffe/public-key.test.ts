import { describe, expect, test } from 'bun:test';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { derBitString, derElement, derObjectIdentifier, derSequence } from '../wire/der-writer.ts';
import { parsePublicKey } from './public-key.ts';

const spkiOf = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' });
const refusalOf = (spki: Uint8Array): string | undefined => reasonOf(() => parsePublicKey(spki));

const p256 = spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey);

describe('parsePublicKey()', () => {
  test('accepts each kind of key that a certificate may hold', () => {
    expect(parsePublicKey(p256).keyType).toBe('ec-p256');
    expect(parsePublicKey(spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey)).keyType).toBe(
      'ec-p384',
    );
    expect(parsePublicKey(spkiOf(generateKeyPairSync('ed25519').publicKey)).keyType).toBe('ed25519');
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
    expect(parsePublicKey(spkiOf(rsa)).keyType).toBe('rsa');
  });

  test('refuses other curves and kinds', () => {
    expect(refusalOf(spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey))).toBe(
      'public_key_refused',
    );
    expect(refusalOf(spkiOf(generateKeyPairSync('x25519').publicKey))).toBe('public_key_refused');
  });

  test('refuses RSA keys that are too small, too large or have a small exponent', () => {
    for (const options of [{ modulusLength: 1024 }, { modulusLength: 2048, publicExponent: 3 }])
      expect(refusalOf(spkiOf(generateKeyPairSync('rsa', options).publicKey))).toBe('public_key_refused');
    expect(refusalOf(rsaSpki(4096))).toBeUndefined();
    expect(refusalOf(rsaSpki(4104))).toBe('public_key_refused');
    expect(refusalOf(rsaSpki(16_384))).toBe('public_key_refused');
  });

  test('refuses a point that is not on the curve', () => {
    const altered = Uint8Array.from(p256);
    altered[p256.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    expect(refusalOf(altered)).toBe('public_key_refused');
  });

  test('refuses a key with something behind it, inside it, or cut off', () => {
    expect(refusalOf(Buffer.concat([p256, Uint8Array.of(0)]))).toBe('public_key_refused');
    for (let length = 0; length < p256.length; length++)
      expect(refusalOf(p256.subarray(0, length))).toBe('public_key_refused');
    const doubled = derSequence(p256.subarray(2), derBitString(Uint8Array.of(1)));
    expect(refusalOf(doubled)).toBe('public_key_refused');
  });

  test('refuses an algorithm whose parameters do not belong to it', () => {
    const withoutCurve = derSequence(
      derSequence(derObjectIdentifier('1.2.840.10045.2.1')),
      derBitString(p256.subarray(-65)),
    );
    const withNull = derSequence(
      derSequence(derObjectIdentifier('1.3.101.112'), derElement(5)),
      derBitString(new Uint8Array(32)),
    );
    for (const spki of [withoutCurve, withNull]) expect(refusalOf(spki)).toBe('public_key_refused');
  });
});

/** An RSA public key of this many bits whose modulus is odd; nobody knows its factors, and nobody needs to. */
function rsaSpki(bits: number): Uint8Array {
  const modulus = new Uint8Array(bits / 8).fill(0xc3);
  const numbers = derSequence(
    derElement(2, Uint8Array.of(0), modulus),
    derElement(2, Uint8Array.of(1, 0, 1)),
  );
  const algorithm = derSequence(derObjectIdentifier('1.2.840.113549.1.1.1'), derElement(5));
  return derSequence(algorithm, derBitString(numbers));
}
