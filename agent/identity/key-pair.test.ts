import 'reflect-metadata';
import { describe, expect, test } from 'bun:test';
import * as x509 from '@peculiar/x509';
import { spawnSync } from 'node:child_process';
import { buildCsr, generateP256Key, publicKeyOf } from './key-pair.ts';

describe('buildCsr()', () => {
  test('makes a request that @peculiar/x509 and openssl accept, for the key it was made with', async () => {
    const keyPair = await generateP256Key();
    const der = buildCsr(keyPair);
    const request = new x509.Pkcs10CertificateRequest(new Uint8Array(der));
    expect(await request.verify()).toBe(true);
    expect(Buffer.from(request.publicKey.rawData)).toEqual(Buffer.from(keyPair.publicKeySpki));
    const openssl = spawnSync('openssl', ['req', '-inform', 'DER', '-verify', '-noout'], { input: der });
    expect(openssl.stderr.toString()).toContain('verify OK');
  });
});

describe('publicKeyOf()', () => {
  test('finds the public half of a generated key', async () => {
    const keyPair = await generateP256Key();
    expect(publicKeyOf(keyPair.privateKeyPkcs8)).toEqual(keyPair.publicKeySpki);
  });
});
