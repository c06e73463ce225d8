import { describe, expect, test } from 'bun:test';
import { generateKeyPairSync } from 'node:crypto';
import { buildCsr, generateP256Key } from '../../agent/identity/key-pair.ts';
import { runOk } from '../../tests/kit/child.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { decodePemBlock } from '../../shared/wire/pem.ts';
import { readCsr } from './csr.ts';

describe('readCsr()', () => {
  test('reads what our agents send', async () => {
    const key = await generateP256Key();
    expect(readCsr(buildCsr(key)).publicKeySpki).toEqual(key.publicKeySpki);
  });

  test.each([
    ['EC P-256', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']],
    ['EC P-384', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384']],
    ['RSA 2048', ['-newkey', 'rsa:2048']],
    ['Ed25519', ['-newkey', 'ed25519']],
  ])('reads what OpenSSL makes for %s, ignoring subject and extensions', async (_name, key) => {
    const extension = [
      '-addext',
      'subjectAltName=URI:spiffe://example.org/admin',
      '-addext',
      'basicConstraints=CA:TRUE',
    ];
    const pem = await runOk([
      'openssl',
      'req',
      '-new',
      '-nodes',
      '-keyout',
      '/dev/null',
      '-subj',
      '/CN=admin',
      ...key,
      ...extension,
    ]);
    expect(readCsr(decodePemBlock('CERTIFICATE REQUEST', pem)).publicKeySpki.length).toBeGreaterThan(40);
  });

  test('refuses a request that another key signed', async () => {
    const [own, other] = [await generateP256Key(), await generateP256Key()];
    const mixed = { publicKeySpki: own.publicKeySpki, privateKeyPkcs8: other.privateKeyPkcs8 };
    expect(reasonOf(() => readCsr(buildCsr(mixed)))).toBe('csr_signature_invalid');
  });

  test('refuses a changed, cut, lengthened or oversized request', async () => {
    const csr = buildCsr(await generateP256Key());
    expect(reasonOf(() => readCsr(new Uint8Array(0)))).toBe('csr_invalid');
    expect(reasonOf(() => readCsr(Buffer.concat([csr, Uint8Array.of(0)])))).toBe('csr_invalid');
    expect(reasonOf(() => readCsr(new Uint8Array(9000)))).toBe('csr_invalid');
    for (let length = 0; length < csr.length; length++)
      expect(reasonOf(() => readCsr(csr.subarray(0, length)))).toBe('csr_invalid');
    for (let at = 0; at < csr.length; at++) {
      const changed = csr.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(reasonOf(() => readCsr(changed))).toBeString();
    }
  });

  test('refuses a weak key', () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const weak = {
      privateKeyPkcs8: new Uint8Array(privateKey.export({ format: 'der', type: 'pkcs8' })),
      publicKeySpki: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' })),
    };
    expect(reasonOf(() => readCsr(buildCsr(weak)))).toBe('public_key_refused');
  });
});
