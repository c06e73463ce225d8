import { describe, expect, test } from 'bun:test';
import vectors from '../../tests/vectors/tpm2.json';
import { ByteReader } from './byte-reader.ts';
import { parseTpmQuote } from './tpm2-attest.ts';
import {
  buildPcrSelection,
  computePcrDigest,
  readPcrSelection,
  selectsExactly,
} from './tpm2-pcr-selection.ts';
import { parseTpmPublic } from './tpm2-public.ts';
import { isTpmSignatureValid, parseTpmSignature } from './tpm2-signature.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const values = new Map(Object.entries(vectors.pcrValues).map(([pcr, value]) => [Number(pcr), hex(value)]));

describe('parseTpmQuote()', () => {
  test('reads a quote that a TPM signed', () => {
    const quote = parseTpmQuote(hex(vectors.attestationKeys.ecc.quote));
    expect(Buffer.from(quote.extraData).toString('hex')).toBe(vectors.qualifyingData);
    expect(selectsExactly(quote.selection, vectors.pcrs)).toBe(true);
    expect(Buffer.from(quote.pcrDigest).equals(computePcrDigest(values))).toBe(true);
    expect(quote.qualifiedSigner.length).toBe(34);
  });

  test('refuses what does not begin with the magic of TPM-made structures', () => {
    const quote = hex(vectors.attestationKeys.ecc.quote);
    quote.set([0xfe], 0);
    expect(() => parseTpmQuote(quote)).toThrow(expect.objectContaining({ reason: 'tpm_structure_invalid' }));
  });

  test('refuses an attestation of another type, such as TPM2_Certify', () => {
    const quote = hex(vectors.attestationKeys.ecc.quote);
    quote.set([0x80, 0x17], 4);
    expect(() => parseTpmQuote(quote)).toThrow(expect.objectContaining({ reason: 'tpm_structure_invalid' }));
  });
});

describe('isTpmSignatureValid()', () => {
  for (const kind of ['ecc', 'rsa'] as const) {
    const vector = vectors.attestationKeys[kind];
    const area = parseTpmPublic(hex(vector.public));

    test(`accepts the ${kind} key's own signature and no other message`, () => {
      const signature = parseTpmSignature(hex(vector.signature));
      expect(isTpmSignatureValid(area, { message: hex(vector.quote), signature })).toBe(true);
      const altered = hex(vector.quote);
      altered.set([(altered.at(-1) ?? 0) ^ 1], altered.length - 1);
      expect(isTpmSignatureValid(area, { message: altered, signature })).toBe(false);
    });

    test(`refuses the ${kind} key's signature under the other key`, () => {
      const other = vectors.attestationKeys[kind === 'ecc' ? 'rsa' : 'ecc'];
      const signature = parseTpmSignature(hex(other.signature));
      expect(isTpmSignatureValid(area, { message: hex(vector.quote), signature })).toBe(false);
    });
  }

  test('refuses a hash that is not the one of the scheme', () => {
    const vector = vectors.attestationKeys.ecc;
    const signature = { ...parseTpmSignature(hex(vector.signature)), hash: 'sha384' as const };
    const area = parseTpmPublic(hex(vector.public));
    expect(isTpmSignatureValid(area, { message: hex(vector.quote), signature })).toBe(false);
  });
});

describe('buildPcrSelection()', () => {
  test('selects each single PCR, and readPcrSelection() finds it', () => {
    for (let pcr = 0; pcr < 24; pcr++) {
      const selection = readPcrSelection(new ByteReader(buildPcrSelection([pcr])));
      expect(selection).toEqual([{ hashId: 0x000b, pcrs: [pcr] }]);
    }
    expect(() => buildPcrSelection([24])).toThrow(RangeError);
  });
});

describe('selectsExactly()', () => {
  const sha256 = 0x000b;
  test('ignores order and repetition of what is wanted', () => {
    expect(selectsExactly([{ hashId: sha256, pcrs: [0, 7] }], [7, 0, 7])).toBe(true);
  });

  test('refuses fewer, more, or another bank', () => {
    expect(selectsExactly([{ hashId: sha256, pcrs: [0] }], [0, 7])).toBe(false);
    expect(selectsExactly([{ hashId: sha256, pcrs: [0, 7, 8] }], [0, 7])).toBe(false);
    expect(selectsExactly([{ hashId: 0x0004, pcrs: [0, 7] }], [0, 7])).toBe(false);
    expect(
      selectsExactly(
        [
          { hashId: sha256, pcrs: [0, 7] },
          { hashId: 0x0004, pcrs: [1] },
        ],
        [0, 7],
      ),
    ).toBe(false);
    expect(selectsExactly([], [])).toBe(false);
  });
});
