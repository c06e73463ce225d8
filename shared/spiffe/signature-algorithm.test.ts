import { describe, expect, test } from 'bun:test';
import { generateKeyPairSync, sign } from 'node:crypto';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { isSignatureValid } from './signature-algorithm.ts';

const DATA = Buffer.from('what was signed');
const NULL = Uint8Array.of(5, 0);

const KEYS = {
  ec256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ec384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ed25519: generateKeyPairSync('ed25519'),
} as const;

interface Case {
  readonly identifier: string;
  readonly key: keyof typeof KEYS;
  readonly hash: string | null;
  readonly parameters: Uint8Array | undefined;
}

const CASES: readonly Case[] = [
  { identifier: '1.2.840.10045.4.3.2', key: 'ec256', hash: 'sha256', parameters: undefined },
  { identifier: '1.2.840.10045.4.3.2', key: 'ec384', hash: 'sha256', parameters: undefined },
  { identifier: '1.2.840.10045.4.3.3', key: 'ec384', hash: 'sha384', parameters: undefined },
  { identifier: '1.2.840.10045.4.3.4', key: 'ec256', hash: 'sha512', parameters: undefined },
  { identifier: '1.2.840.113549.1.1.11', key: 'rsa', hash: 'sha256', parameters: NULL },
  { identifier: '1.2.840.113549.1.1.12', key: 'rsa', hash: 'sha384', parameters: NULL },
  { identifier: '1.2.840.113549.1.1.13', key: 'rsa', hash: 'sha512', parameters: NULL },
  { identifier: '1.3.101.112', key: 'ed25519', hash: null, parameters: undefined },
];

function check(
  signed: Case,
  changes: { readonly data?: Uint8Array; readonly signature?: Uint8Array } = {},
): boolean {
  const pair = KEYS[signed.key];
  return isSignatureValid({
    algorithm: { identifier: signed.identifier, parameters: signed.parameters },
    signerSpki: pair.publicKey.export({ format: 'der', type: 'spki' }),
    data: changes.data ?? DATA,
    signature: changes.signature ?? sign(signed.hash, DATA, pair.privateKey),
  });
}

describe('isSignatureValid()', () => {
  test('is true for every algorithm that is accepted, and false once data or signature change', () => {
    for (const signed of CASES) {
      expect(check(signed)).toBe(true);
      expect(check(signed, { data: Buffer.from('What was signed') })).toBe(false);
      for (const signature of [new Uint8Array(0), Buffer.from('garbage'), new Uint8Array(256)])
        expect(check(signed, { signature })).toBe(false);
    }
  });

  test('is false for a signature made with another hash', () => {
    for (const signed of CASES)
      if (signed.hash !== null) {
        const signature = sign(
          signed.hash === 'sha256' ? 'sha384' : 'sha256',
          DATA,
          KEYS[signed.key].privateKey,
        );
        expect(check(signed, { signature })).toBe(false);
      }
  });

  test('refuses algorithms that are broken, unknown or not of the key', () => {
    const refused: readonly Case[] = [
      { identifier: '1.2.840.10045.4.1', key: 'ec256', hash: 'sha1', parameters: undefined },
      { identifier: '1.2.840.113549.1.1.5', key: 'rsa', hash: 'sha1', parameters: NULL },
      { identifier: '1.2.840.113549.1.1.10', key: 'rsa', hash: 'sha256', parameters: NULL },
      { identifier: '1.2.840.113549.1.1.11', key: 'ec256', hash: 'sha256', parameters: NULL },
      { identifier: '1.2.840.10045.4.3.2', key: 'rsa', hash: 'sha256', parameters: undefined },
      { identifier: '1.2.840.10045.4.3.2', key: 'ed25519', hash: null, parameters: undefined },
      { identifier: '1.3.101.112', key: 'ec256', hash: 'sha256', parameters: undefined },
      { identifier: 'toString', key: 'ec256', hash: 'sha256', parameters: undefined },
    ];
    for (const signed of refused) expect(reasonOf(() => check(signed))).toBe('signature_algorithm_refused');
  });

  test('refuses parameters that do not belong to the algorithm', () => {
    for (const signed of CASES) {
      const parameters = signed.parameters === undefined ? NULL : undefined;
      expect(reasonOf(() => check({ ...signed, parameters }))).toBe('signature_algorithm_refused');
    }
  });
});
