import { describe, expect, test } from 'bun:test';
import { parseSpiffeId } from '../spiffe/spiffe-id.ts';
import { areSameTerms, findTermsFault, readTerms } from './egress-terms.ts';
import { toVerdict } from './verdict.ts';

const GATEWAY = parseSpiffeId('spiffe://example.org/gateway');
const HEX = 'AB'.repeat(32);
const BASE64 = Buffer.from(HEX, 'hex').toString('base64');

const leaving = { denyReason: 'egress_deny', isLeaving: true, policyVersion: 7, latencyUs: 0 } as const;

describe('readTerms()', () => {
  test('reads the gateway and the certificate, with hashes in one spelling', () => {
    const certificate = { spki_sha256: [BASE64, HEX], authority: 'partner' };
    expect(readTerms({ via: GATEWAY, server_certificate: certificate })).toEqual({
      via: GATEWAY,
      certificate: { spkiSha256: [HEX.toLowerCase(), HEX.toLowerCase()], authority: 'partner' },
    });
    expect(readTerms({ allowed: true })).toBeUndefined();
    expect(readTerms({ via: null, server_certificate: null, inspect: false })).toBeUndefined();
    expect(readTerms({ via: GATEWAY, inspect: true })).toEqual({ via: GATEWAY, isInspected: true });
  });

  test('takes the order of hashes for nothing', () => {
    const other = 'cd'.repeat(32);
    const one = readTerms({ server_certificate: { spki_sha256: [HEX, other] } });
    const two = readTerms({ server_certificate: { spki_sha256: [other, BASE64] } });
    expect(areSameTerms(one, two)).toBe(true);
    expect(areSameTerms(one, undefined)).toBe(false);
    expect(areSameTerms({ via: GATEWAY }, { via: parseSpiffeId(`${GATEWAY}2`) })).toBe(false);
    expect(areSameTerms(undefined, {})).toBe(true);
    expect(areSameTerms({ via: GATEWAY }, { via: GATEWAY, isInspected: true })).toBe(false);
  });
});

describe('findTermsFault()', () => {
  test.each<Record<string, unknown>>([
    { via: 'gateway' },
    { via: 7 },
    { via: '' },
    { via: [GATEWAY] },
    { inspect: 'no' },
    { inspect: 1 },
    { inspect: {} },
    { server_certificate: {} },
    { server_certificate: [] },
    { server_certificate: 'partner' },
    { server_certificate: true },
    { server_certificate: { spki_sha256: [] } },
    { server_certificate: { spki_sha256: HEX } },
    { server_certificate: { spki_sha256: [HEX.slice(1)] } },
    { server_certificate: { spki_sha256: [`sha256//${BASE64}`] } },
    { server_certificate: { spki_sha256: [7] } },
    { server_certificate: { spki_sha256: Array(17).fill(HEX) } },
    { server_certificate: { authority: '' } },
    { server_certificate: { authority: '../partner' } },
    { server_certificate: { authority: 'a'.repeat(65) } },
    { server_certificate: { spki_sha256: [HEX], authority: 7 } },
    // A misspelt check would be none.
    { server_certificate: { spki_sha256: [HEX], authorty: 'partner' } },
  ])('refuses %p, and an allow with it is a denial', (result) => {
    expect(findTermsFault(result)).toBeString();
    expect(toVerdict({ allowed: true, ...result }, leaving)).toMatchObject({
      isAllowed: false,
      reason: 'policy_error',
    });
  });
});

describe('toVerdict() of what leaves the mesh', () => {
  test.each(['vai', 'server_certifcate', 'Via', 'toString', '__proto__x'])(
    'takes an allow that says %p, which nobody knows, for a denial',
    (key) => {
      const verdict = toVerdict({ allowed: true, [key]: GATEWAY }, leaving);
      expect(verdict).toMatchObject({ isAllowed: false, reason: 'policy_error' });
      expect(verdict.message).toContain(`"${key}"`);
      expect(toVerdict({ allowed: false, [key]: GATEWAY }, leaving)).toMatchObject({ reason: 'egress_deny' });
      // The called side is asked in the words of opa-envoy-plugin, which knows more.
      const arriving = { ...leaving, denyReason: 'policy_deny', isLeaving: false } as const;
      expect(toVerdict({ allowed: true, [key]: GATEWAY }, arriving)).toMatchObject({ isAllowed: true });
    },
  );

  test('carries the terms of an allow, in audit too, and of nothing else', () => {
    const result = { allowed: true, via: GATEWAY };
    expect(toVerdict(result, leaving)).toMatchObject({ isAllowed: true, terms: { via: GATEWAY } });
    const audited = toVerdict({ ...result, would_deny: ['rule'] }, leaving);
    expect(audited).toMatchObject({ terms: { via: GATEWAY }, wouldDeny: { rules: ['rule'] } });
    expect(toVerdict({ ...result, allowed: false }, leaving)).not.toHaveProperty('terms');
    expect(toVerdict(true, leaving)).not.toHaveProperty('terms');
  });

  test('denies where terms are made for what does not leave it', () => {
    const within = { ...leaving, isLeaving: false };
    for (const result of [
      { via: GATEWAY },
      { server_certificate: { authority: 'partner' } },
      { inspect: true },
    ])
      expect(toVerdict({ allowed: true, ...result }, within)).toMatchObject({
        isAllowed: false,
        reason: 'policy_error',
      });
  });
});
