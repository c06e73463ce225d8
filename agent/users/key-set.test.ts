import { describe, expect, test } from 'bun:test';
import { generateKeyPairSync } from 'node:crypto';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseKeySet } from './key-set.ts';

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ec = { ...publicKey.export({ format: 'jwk' }), kid: 'a' };
const read = (...keys: readonly object[]): readonly string[] => [
  ...parseKeySet(JSON.stringify({ keys })).keys(),
];

/** RFC 7517, appendix A.1. */
const PUBLISHED = {
  kty: 'EC',
  crv: 'P-256',
  x: 'MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4',
  y: '4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM',
  kid: '1',
};

describe('parseKeySet()', () => {
  test('reads the key that RFC 7517 publishes', () => {
    expect(read(PUBLISHED)).toEqual(['1']);
  });

  test('leaves out what no token is to be verified with', () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
    const secret = { kty: 'oct', k: 'c2VjcmV0', kid: 'oct' };
    const unusable = [
      secret,
      { ...weak, kid: 'weak' },
      { ...privateKey.export({ format: 'jwk' }), kid: 'private' },
      { ...ec, kid: 'enc', use: 'enc' },
      { ...ec, kid: 'ops', key_ops: ['encrypt'] },
      { ...ec, kid: 'alg', alg: 'RS256' },
      { ...ec, kid: 'hs', alg: 'HS256' },
      { ...ec, kid: undefined },
      { ...ec, kid: 'point', x: ec.y },
      { kid: 'nothing' },
      {},
    ];
    expect(read(ec, ...unusable)).toEqual(['a']);
    expect(read(...unusable)).toEqual([]);
  });

  test.each([
    '',
    '[]',
    '{}',
    'null',
    '{"keys":{}}',
    '{"keys":[',
    JSON.stringify({ keys: Array.from({ length: 65 }, (_, i) => ({ ...ec, kid: `k${i}` })) }),
  ])('refuses %p', (text) => {
    expect(reasonOf(() => parseKeySet(text))).toBe('key_set_invalid');
  });

  test.each(['{"keys":[]}', '{"keys":["a", null, 1, []]}'])('reads %p as a set without keys', (text) => {
    expect(parseKeySet(text).size).toBe(0);
  });

  test('leaves out all keys of one name, and no others', () => {
    const twin = { ...PUBLISHED, kid: 'a' };
    expect(read(ec, PUBLISHED, twin)).toEqual(['1']);
    expect(read(ec, twin, ec)).toEqual([]);
  });
});
