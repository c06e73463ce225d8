import { describe, expect, test } from 'bun:test';
import vectors from '../../tests/vectors/tpm2.json';
import { PicketError } from '../errors/errors.ts';
import { ByteReader } from './byte-reader.ts';
import { parseTpmQuote } from './tpm2-attest.ts';
import { parseTpmResponse } from './tpm2-command.ts';
import { makeTpmCredential } from './tpm2-credential.ts';
import { buildPcrSelection, readPcrSelection } from './tpm2-pcr-selection.ts';
import { parseTpmPublic, spkiOf } from './tpm2-public.ts';
import { isTpmSignatureValid, parseTpmSignature } from './tpm2-signature.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const { ecc, rsa } = vectors.attestationKeys;
const secret = new Uint8Array(32);

/** Every parser with what a program does next with its result, and valid inputs to spoil. */
const targets: Readonly<Record<string, { valid: Uint8Array[]; parse: (bytes: Uint8Array) => unknown }>> = {
  'parseTpmPublic() and spkiOf()': {
    valid: [...Object.values(vectors.endorsementKeys), ecc.public, rsa.public].map(hex),
    parse: (bytes) => spkiOf(parseTpmPublic(bytes)),
  },
  'parseTpmPublic() and makeTpmCredential()': {
    valid: Object.values(vectors.endorsementKeys).map(hex),
    parse: (bytes) =>
      makeTpmCredential(parseTpmPublic(bytes), {
        objectName: new Uint8Array(34),
        secret,
        random: (length) => new Uint8Array(length).fill(7),
      }),
  },
  'parseTpmQuote()': { valid: [ecc.quote, rsa.quote].map(hex), parse: parseTpmQuote },
  'parseTpmSignature() and isTpmSignatureValid()': {
    valid: [ecc.signature, rsa.signature].map(hex),
    parse: (bytes) => {
      const signature = parseTpmSignature(bytes);
      for (const { public: area, quote } of [ecc, rsa])
        isTpmSignatureValid(parseTpmPublic(hex(area)), { message: hex(quote), signature });
    },
  },
  'parseTpmResponse()': {
    valid: [ecc.quoteResponse, rsa.quoteResponse].map(hex),
    parse: (bytes) => parseTpmResponse(bytes, { hasHandle: false }),
  },
  'readPcrSelection()': {
    valid: [buildPcrSelection([0, 7, 23])],
    parse: (bytes) => {
      const reader = new ByteReader(bytes);
      readPcrSelection(reader);
      reader.requireEnd();
    },
  },
};

for (const [name, { valid, parse }] of Object.entries(targets))
  describe(name, () => {
    test('accepts the valid inputs', () => {
      for (const bytes of valid) expect(() => parse(bytes)).not.toThrow();
    });

    test('refuses every truncation with an error of ours', () => {
      for (const bytes of valid)
        for (let length = 0; length < bytes.length; length++)
          expect(outcomeOf(() => parse(bytes.subarray(0, length)))).toBe('refused');
    });

    test('never fails otherwise than with an error of ours, whichever byte is altered', () => {
      for (const bytes of valid)
        for (let index = 0; index < bytes.length; index++)
          for (const flip of [0x01, 0x80, 0xff]) {
            const altered = bytes.slice();
            altered[index] = (altered[index] ?? 0) ^ flip;
            outcomeOf(() => parse(altered));
          }
    });

    test('never fails otherwise on random bytes', () => {
      const random = generator(1);
      for (let round = 0; round < 500; round++) {
        const bytes = new Uint8Array(random() % 200).map(() => random() & 0xff);
        outcomeOf(() => parse(bytes));
        // Past the first bytes too: a valid head with random bytes after it.
        const head = valid[0]?.subarray(0, random() % 80) ?? new Uint8Array(0);
        outcomeOf(() => parse(Buffer.concat([head, bytes])));
      }
    });
  });

/** Runs `parse`; anything but success or our own error fails the test. */
function outcomeOf(parse: () => unknown): 'accepted' | 'refused' {
  try {
    parse();
    return 'accepted';
  } catch (error) {
    if (error instanceof PicketError) return 'refused';
    throw error;
  }
}

/** A xorshift generator, so that a failure can be run again. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
