import { createHash } from 'node:crypto';
import { describe, expect, test } from 'bun:test';
import { computeQualifyingData } from './tpm-binding.ts';

const binding = {
  nonce: new Uint8Array(32).fill(1),
  csrPublicKeySpki: new Uint8Array(91).fill(2),
  serverCertificateSha256: new Uint8Array(32).fill(3),
};

describe('computeQualifyingData()', () => {
  test('is SHA-256 of nonce, public key and certificate hash, in this order', () => {
    const expected = createHash('sha256').update(
      Buffer.concat([binding.nonce, binding.csrPublicKeySpki, binding.serverCertificateSha256]),
    );
    expect(Buffer.from(computeQualifyingData(binding))).toEqual(expected.digest());
  });

  test('refuses a nonce or certificate hash of another length, which could shift bytes between the fields', () => {
    expect(() => computeQualifyingData({ ...binding, nonce: new Uint8Array(31) })).toThrow(RangeError);
    expect(() => computeQualifyingData({ ...binding, serverCertificateSha256: new Uint8Array(33) })).toThrow(
      RangeError,
    );
  });
});
