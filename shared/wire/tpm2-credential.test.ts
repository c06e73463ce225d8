import { constants, createECDH, createHmac, generateKeyPairSync, privateDecrypt } from 'node:crypto';
import { describe, expect, test } from 'bun:test';
import vectors from '../../tests/vectors/tpm2.json';
import { ByteReader } from './byte-reader.ts';
import { makeTpmCredential } from './tpm2-credential.ts';
import { deriveKdfA, deriveKdfE } from './tpm2-key-derivation.ts';
import { parseTpmPublic, type TpmPublic } from './tpm2-public.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const objectName = hex(`000b${'5a'.repeat(32)}`);
const counting = () => {
  let next = 1;
  return (length: number) => new Uint8Array(length).map(() => next++ & 0xff);
};

describe('deriveKdfA()', () => {
  const key = Uint8Array.from({ length: 32 }, (_, index) => index);
  // Expected values by `openssl kdf … KBKDF` with separator and length, whose salt is the label and whose info is the context.
  test('agrees with SP 800-108 of OpenSSL over more than one block', () => {
    const derived = deriveKdfA(key, {
      hash: 'sha256',
      label: 'STORAGE',
      contextU: hex('000baabbccdd'),
      bits: 384,
    });
    expect(toHex(derived)).toBe(
      'f7c0702d38fc98830bf65773ebe9e52a75b088536f77f9d0d6741182a1a805864e1af4d08fe22393d2f74a4c1df1148c',
    );
  });

  test('agrees with OpenSSL over a part of a SHA-384 block', () => {
    const derived = deriveKdfA(key, { hash: 'sha384', label: 'INTEGRITY', bits: 256 });
    expect(toHex(derived)).toBe('6296575aad901f03ff05602acfed662a573f0c8b933a0bd8dd90e02bd4c3c083');
  });
});

describe('deriveKdfE()', () => {
  // Expected values by `openssl kdf … SSKDF`, whose info is label, zero and both parties.
  test('agrees with SP 800-56A of OpenSSL', () => {
    const z = hex('aabbccddeeff00112233445566778899');
    const input = { label: 'IDENTITY', partyU: hex('010203'), partyV: hex('0405'), bits: 384 } as const;
    expect(toHex(deriveKdfE(z, { ...input, hash: 'sha256' }))).toBe(
      'a60030675bf7120a306aa7dc7b2dfcf5353297fe6b3fc0ed1fde13c1fdef6d4e2e0986d136b476ba926be5e204943dfe',
    );
    expect(toHex(deriveKdfE(z, { ...input, hash: 'sha384' }))).toBe(
      '4a18be7091606c4b8253ea7879513e6faf9b9f145e8794c3d983fe103b174b94df35029e00800b19a06301af3bd61bdf',
    );
  });
});

describe('makeTpmCredential()', () => {
  test('encrypts the seed for RSA by OAEP with the label IDENTITY and its zero', () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const modulus = Buffer.from(publicKey.export({ format: 'jwk' }).n ?? '', 'base64url');
    const template = parseTpmPublic(hex(vectors.endorsementKeys.rsa2048));
    const area: TpmPublic = { ...template, key: { kind: 'rsa', keyBits: 2048, exponent: 0, modulus } };
    const random = counting();
    const credential = makeTpmCredential(area, { objectName, secret: hex('aa'.repeat(32)), random });
    const seed = privateDecrypt(
      {
        key: privateKey,
        padding: constants.RSA_PKCS1_OAEP_PADDING,
        oaepHash: 'sha256',
        oaepLabel: Buffer.from('IDENTITY\0'),
      },
      credential.encryptedSecret.subarray(2),
    );
    expect(toHex(seed)).toBe(toHex(counting()(32)));
    expect(integrityOf(credential.credentialBlob)).toBe(expectedIntegrity(seed, credential.credentialBlob));
  });

  test('sends the ephemeral point for ECC, and both sides derive one seed', () => {
    const endorsementKey = createECDH('prime256v1');
    endorsementKey.setPrivateKey(hex('42'.repeat(32)));
    const point = endorsementKey.getPublicKey();
    const [x, y] = [point.subarray(1, 33), point.subarray(33)];
    const template = parseTpmPublic(hex(vectors.endorsementKeys.eccP256));
    const area: TpmPublic = { ...template, key: { kind: 'ecc', curve: 'p256', x, y } };
    const credential = makeTpmCredential(area, {
      objectName,
      secret: hex('aa'.repeat(32)),
      random: counting(),
    });
    const reader = new ByteReader(credential.encryptedSecret.subarray(2));
    const ephemeralX = reader.bytes(reader.u16());
    const ephemeralY = reader.bytes(reader.u16());
    const z = endorsementKey.computeSecret(Buffer.concat([Uint8Array.of(4), ephemeralX, ephemeralY]));
    const seed = deriveKdfE(z, {
      hash: 'sha256',
      label: 'IDENTITY',
      partyU: ephemeralX,
      partyV: x,
      bits: 256,
    });
    expect(integrityOf(credential.credentialBlob)).toBe(expectedIntegrity(seed, credential.credentialBlob));
  });

  test('draws again when the random number is not below the order of the curve', () => {
    const area = parseTpmPublic(hex(vectors.endorsementKeys.eccP256));
    const draws = [hex('ff'.repeat(32)), hex('01'.repeat(32))];
    const random = () => draws.shift() ?? new Uint8Array(32);
    expect(
      makeTpmCredential(area, { objectName, secret: new Uint8Array(32), random }).encryptedSecret.length,
    ).toBe(70);
    const broken = () => hex('ff'.repeat(32));
    expect(() => makeTpmCredential(area, { objectName, secret: new Uint8Array(32), random: broken })).toThrow(
      expect.objectContaining({ code: 'internal', reason: 'random_unusable' }),
    );
  });

  test('refuses a signing key, an even modulus and a secret longer than the digest', () => {
    const random = counting();
    const signing = parseTpmPublic(hex(vectors.attestationKeys.rsa.public));
    expect(() => makeTpmCredential(signing, { objectName, secret: new Uint8Array(32), random })).toThrow(
      expect.objectContaining({ reason: 'tpm_structure_unsupported' }),
    );
    const rsa = parseTpmPublic(hex(vectors.endorsementKeys.rsa2048));
    const modulus = new Uint8Array(256).fill(0xfe);
    const even: TpmPublic = { ...rsa, key: { kind: 'rsa', keyBits: 2048, exponent: 0, modulus } };
    expect(() => makeTpmCredential(even, { objectName, secret: new Uint8Array(32), random })).toThrow(
      expect.objectContaining({ reason: 'tpm_structure_invalid' }),
    );
    expect(() => makeTpmCredential(rsa, { objectName, secret: new Uint8Array(33), random })).toThrow(
      RangeError,
    );
  });
});

function integrityOf(credentialBlob: Uint8Array): string {
  const reader = new ByteReader(credentialBlob);
  expect(reader.u16()).toBe(credentialBlob.length - 2);
  return toHex(reader.bytes(reader.u16()));
}

function expectedIntegrity(seed: Uint8Array, credentialBlob: Uint8Array): string {
  const key = deriveKdfA(seed, { hash: 'sha256', label: 'INTEGRITY', bits: 256 });
  return createHmac('sha256', key).update(credentialBlob.subarray(36)).update(objectName).digest('hex');
}
