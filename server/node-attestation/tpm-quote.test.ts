import { describe, expect, test } from 'bun:test';
import { parseTpmPublic } from '../../shared/wire/tpm2-public.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import vectors from '../../tests/vectors/tpm2.json';
import { type ReportedQuote, requireExpectedPcrs, requireQuote } from './tpm-quote.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const zeros = '0'.repeat(64);
const { ecc, rsa } = vectors.attestationKeys;
const reported = { quote: hex(ecc.quote), signature: hex(ecc.signature), pcrValues: [zeros, zeros, zeros] };
const expected = {
  attestationKey: parseTpmPublic(hex(ecc.public)),
  qualifyingData: hex(vectors.qualifyingData),
  pcrs: vectors.pcrs,
};
const reasonFor = (quote: Partial<ReportedQuote>, wanted: Partial<typeof expected> = {}) =>
  reasonOf(() => requireQuote({ ...reported, ...quote }, { ...expected, ...wanted }));

describe('requireQuote()', () => {
  test("accepts a TPM's quote and gives the values by PCR", () => {
    expect([...requireQuote(reported, expected)]).toEqual([
      [0, zeros],
      [7, zeros],
      [23, zeros],
    ]);
  });

  test('refuses the signature of another key, or of another quote', () => {
    expect(reasonFor({}, { attestationKey: parseTpmPublic(hex(rsa.public)) })).toBe(
      'quote_signature_invalid',
    );
    expect(reasonFor({ quote: hex(rsa.quote) })).toBe('quote_signature_invalid');
    expect(reasonFor({ signature: hex(rsa.signature) })).toBe('quote_signature_invalid');
  });

  test('refuses a quote with any byte altered', () => {
    for (let index = 0; index < reported.quote.length; index++) {
      const quote = reported.quote.slice();
      quote[index] = (quote[index] ?? 0) ^ 1;
      expect(reasonFor({ quote })).toBe('quote_signature_invalid');
    }
  });

  test('refuses a quote that is bound to something else', () => {
    for (const qualifyingData of [new Uint8Array(32), new Uint8Array(0), expected.qualifyingData.subarray(1)])
      expect(reasonFor({}, { qualifyingData })).toBe('quote_not_bound');
  });

  test('refuses fewer, more and other PCRs than those of the challenge', () => {
    for (const pcrs of [[0], [0, 7], [0, 7, 22], [0, 7, 22, 23]])
      expect(reasonFor({}, { pcrs })).toBe('quote_pcrs_wrong');
  });

  test('refuses values that are not the quoted ones, too few or too many', () => {
    const others = [[zeros, zeros], [zeros, zeros, zeros, zeros], [zeros, `1${zeros.slice(1)}`, zeros], []];
    for (const pcrValues of others) expect(reasonFor({ pcrValues })).toBe('quote_values_wrong');
  });
});

describe('requireExpectedPcrs()', () => {
  const values = new Map([[7, zeros]]);
  const other = 'f'.repeat(64);

  test('accepts any of several values, and anything where nothing is expected', () => {
    expect(reasonOf(() => requireExpectedPcrs(values, {}))).toBeUndefined();
    expect(reasonOf(() => requireExpectedPcrs(values, { '7': [other, zeros] }))).toBeUndefined();
  });

  test('refuses another value, and a PCR that was not quoted', () => {
    expect(reasonOf(() => requireExpectedPcrs(values, { '7': [other] }))).toBe('pcr_unexpected');
    expect(reasonOf(() => requireExpectedPcrs(values, { '7': [zeros], '8': [zeros] }))).toBe(
      'pcr_unexpected',
    );
    expect(reasonOf(() => requireExpectedPcrs(values, { '7': [] }))).toBe('pcr_unexpected');
  });
});
