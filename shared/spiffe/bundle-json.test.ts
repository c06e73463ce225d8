import { beforeAll, describe, expect, test } from 'bun:test';
import { authorityProfile, makeCertificate } from '../../tests/kit/test-authority.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { wireBundle } from '../protocol/attestation.ts';
import { buildTrustBundleJson, MAX_X509_AUTHORITIES, parseTrustBundleJson } from './bundle-json.ts';
import type { TrustBundle } from './trust-bundle.ts';
import { parseTrustDomain } from './trust-domain.ts';
import { fromWireBundle, toWireBundle } from './wire-bundle.ts';

const DOMAIN = parseTrustDomain('one.test');

let bundle: TrustBundle;
let x5c: string;

beforeAll(async () => {
  const [first, second] = [
    await makeCertificate(authorityProfile('one.test')),
    await makeCertificate(authorityProfile('one.test')),
  ];
  bundle = {
    trustDomain: DOMAIN,
    sequence: 7,
    refreshHintSeconds: 600,
    x509Authorities: [first.der, second.der],
  };
  x5c = Buffer.from(first.der).toString('base64');
});

const parse = (text: string): TrustBundle => parseTrustBundleJson(text, DOMAIN);
const keys = (...list: readonly unknown[]): string => JSON.stringify({ keys: list });

describe('trust bundle JSON', () => {
  test('buildTrustBundleJson() is read back by parseTrustBundleJson()', () => {
    expect(parse(buildTrustBundleJson(bundle))).toEqual(bundle);
    const empty = { ...bundle, x509Authorities: [] };
    expect(parse(buildTrustBundleJson(empty))).toEqual(empty);
  });

  test('buildTrustBundleJson() writes the members that the standard asks for and no kid', () => {
    const document = JSON.parse(buildTrustBundleJson(bundle)) as { keys: Record<string, unknown>[] };
    expect(document).toMatchObject({ spiffe_sequence: 7, spiffe_refresh_hint: 600 });
    const [key] = document.keys;
    expect(Object.keys(key!).toSorted()).toEqual(['crv', 'kty', 'use', 'x', 'x5c', 'y']);
    expect(key).toMatchObject({ kty: 'EC', crv: 'P-256', use: 'x509-svid', x5c: [x5c] });
  });

  test('parseTrustBundleJson() takes the defaults of the standard', () => {
    expect(parse('{"keys":[]}')).toEqual({
      trustDomain: DOMAIN,
      sequence: 0,
      refreshHintSeconds: 300,
      x509Authorities: [],
    });
    expect(parse('{"keys":[],"spiffe_refresh_hint":0}').refreshHintSeconds).toBe(1);
    expect(parse('{"keys":[],"spiffe_refresh_hint":99999999}').refreshHintSeconds).toBe(86_400);
  });

  test('parseTrustBundleJson() ignores unknown types, unknown uses and entries without a certificate', () => {
    const good = { kty: 'EC', use: 'x509-svid', x5c: [x5c, 'ignored'], 'unknown-member': 1 };
    const ignored = [
      { kty: 'XX', use: 'x509-svid', x5c: [x5c] },
      { use: 'x509-svid', x5c: [x5c] },
      { kty: 'EC', use: 'jwt-svid', kid: 'a' },
      { kty: 'EC', use: 'sig', x5c: [x5c] },
      { kty: 'EC', x5c: [x5c] },
      { kty: 'EC', use: 'x509-svid' },
      { kty: 'EC', use: 'x509-svid', x5c: [] },
    ];
    expect(parse(keys(...ignored, good)).x509Authorities).toEqual(bundle.x509Authorities.slice(0, 1));
  });

  test('parseTrustBundleJson() refuses what is out of form', () => {
    const entry = { kty: 'EC', use: 'x509-svid' };
    const refused = [
      '',
      '[]',
      '{}',
      'null',
      '{"keys":{}}',
      '{"keys":[1]}',
      '{"keys":[],"keys":[]}',
      '{"spiffe_sequence":1,"keys":[],"spiffe_sequence":2}',
      `{"keys":[{"kty":"EC","use":"x509-svid","x5c":[],"x5c":["${x5c}"]}]}`,
      '{"keys":[],"spiffe_sequence":-1}',
      '{"keys":[],"spiffe_sequence":1.5}',
      '{"keys":[],"spiffe_sequence":9007199254740992}',
      '{"keys":[],"spiffe_sequence":"1"}',
      keys({ ...entry, x5c: [1] }),
      keys({ ...entry, x5c: ['%%%'] }),
      keys({ ...entry, x5c: ['AAAA'] }),
      keys({ ...entry, x5c: [`${x5c}\n`] }),
      keys(...Array.from({ length: MAX_X509_AUTHORITIES + 1 }, () => ({ ...entry, x5c: [x5c] }))),
    ];
    for (const text of refused) expect(reasonOf(() => parse(text))).toBe('bundle_invalid');
  });
});

describe('wire bundle', () => {
  test('toWireBundle() fits the protocol and is read back by fromWireBundle()', () => {
    expect(fromWireBundle(wireBundle.parse(toWireBundle(bundle)))).toEqual(bundle);
  });

  test('fromWireBundle() refuses a certificate that is none and a trust domain that is none', () => {
    const wire = toWireBundle(bundle);
    expect(reasonOf(() => fromWireBundle({ ...wire, x509Authorities: ['AAAA'] }))).toBe('bundle_invalid');
    expect(reasonOf(() => fromWireBundle({ ...wire, trustDomain: 'One' }))).toBe('trust_domain_invalid');
  });
});
