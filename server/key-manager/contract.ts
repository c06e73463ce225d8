import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { createPrivateKey, generateKeyPairSync, verify } from 'node:crypto';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import type { KeyManager, SigningKey } from './key-manager.ts';

/** The suite that each adapter of `KeyManager` runs. */
export function describeKeyManager(
  adapter: string,
  make: () => Promise<{ readonly keys: KeyManager; readonly remove: () => Promise<void> }>,
): void {
  describe(`${adapter} as KeyManager`, () => {
    let keys: KeyManager;
    let remove: () => Promise<void>;
    beforeEach(async () => ({ keys, remove } = await make()));
    afterEach(() => remove());

    test('generate() makes a key that signs, and find() finds it', async () => {
      const made = await keys.generate('intermediate');
      const found = await keys.find('intermediate');
      expect(found?.publicKeySpki).toEqual(made.publicKeySpki);
      expect(await hasSigned(made, await made.sign(DATA))).toBe(true);
      expect(await hasSigned(made, await (found as SigningKey).sign(DATA))).toBe(true);
    });

    test('generate() replaces a key of the same name, and the old one signs no more', async () => {
      const first = await keys.generate('policy');
      await first.sign(DATA);
      const second = await keys.generate('policy');
      expect(second.publicKeySpki).not.toEqual(first.publicKeySpki);
      expect((await keys.find('policy'))?.publicKeySpki).toEqual(second.publicKeySpki);
      expect(await keys.list()).toEqual(['policy']);
      expect((await refusalOf(first.sign(DATA))).reason).toBe('key_replaced');
      expect(await hasSigned(second, await second.sign(DATA))).toBe(true);
    });

    test('generate() at the same time for one name leaves one key that signs', async () => {
      await Promise.all([keys.generate('policy'), keys.generate('policy'), keys.generate('policy')]);
      const key = (await keys.find('policy')) as SigningKey;
      expect(await hasSigned(key, await key.sign(DATA))).toBe(true);
    });

    test('list() names every key in order', async () => {
      for (const name of ['policy', 'a', 'intermediate']) await keys.generate(name);
      expect(await keys.list()).toEqual(['a', 'intermediate', 'policy']);
    });

    test('importKey() takes a P-256 key in', async () => {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const key = await keys.importKey(
        'given',
        new Uint8Array(privateKey.export({ format: 'der', type: 'pkcs8' })),
      );
      expect(Buffer.from(key.publicKeySpki)).toEqual(publicKey.export({ format: 'der', type: 'spki' }));
    });

    test('importKey() refuses a key whose public half belongs to another', async () => {
      const [key, other] = [0, 1].map(() => generateKeyPairSync('ec', { namedCurve: 'P-256' }));
      const pkcs8 = key!.privateKey.export({ format: 'der', type: 'pkcs8' });
      const point = (of: typeof other): Buffer =>
        of!.publicKey.export({ format: 'der', type: 'spki' }).subarray(-64);
      const at = pkcs8.indexOf(point(key));
      const mixed = Buffer.concat([pkcs8.subarray(0, at), point(other), pkcs8.subarray(at + 64)]);
      expect((await refusalOf(keys.importKey('mixed', new Uint8Array(mixed)))).reason).toBe(
        'signing_key_refused',
      );
    });

    test('importKey() refuses other keys and garbage', async () => {
      const others = [
        generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey,
        generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey,
        generateKeyPairSync('ed25519').privateKey,
      ].map(
        (key) =>
          new Uint8Array(
            createPrivateKey(key.export({ format: 'pem', type: 'pkcs8' })).export({
              format: 'der',
              type: 'pkcs8',
            }),
          ),
      );
      for (const pkcs8 of [...others, new Uint8Array(0), new Uint8Array(100).fill(0x30)])
        expect((await refusalOf(keys.importKey('bad', pkcs8))).reason).toBe('signing_key_refused');
      expect(await keys.list()).toEqual([]);
    });

    test('find() knows nothing of a key that was not made; names that are no names are refused', async () => {
      expect(await keys.find('absent')).toBeUndefined();
      for (const name of ['', '../secret', 'A', 'a/b', 'a'.repeat(65)])
        for (const attempt of [
          () => keys.generate(name),
          () => keys.find(name),
          () => keys.importKey(name, new Uint8Array(1)),
        ])
          expect((await refusalOf(attempt())).reason).toBe('key_name_invalid');
    });
  });
}

const DATA = Buffer.from('what is signed');

async function hasSigned(key: SigningKey, signature: Uint8Array): Promise<boolean> {
  const publicKey = { key: Buffer.from(key.publicKeySpki), format: 'der', type: 'spki' } as const;
  return await Promise.resolve(verify('sha256', DATA, publicKey, signature));
}
