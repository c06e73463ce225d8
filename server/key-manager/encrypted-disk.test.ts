import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runOk } from '../../tests/kit/child.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { describeKeyManager } from './contract.ts';
import { openEncryptedDisk } from './encrypted-disk.ts';
import { encryptPkcs8, readPkcs8Pem } from './encrypted-pkcs8.ts';
import { generatePkcs8 } from './software-key.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';

describeKeyManager('EncryptedDiskKeyManager', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'picket-keys-'));
  const keys = await openEncryptedDisk({
    directory: join(folder, 'keys'),
    secretFile: join(folder, 'secret'),
  });
  return { keys, remove: async () => await rm(folder, { recursive: true }) };
});

describe('openEncryptedDisk()', () => {
  let folder: string;
  const open = () =>
    openEncryptedDisk({ directory: join(folder, 'keys'), secretFile: join(folder, 'secret') });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'picket-keys-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test('finds keys again after a restart, and keeps no plain key on disk', async () => {
    const made = await (await open()).generate('intermediate');
    const file = join(folder, 'keys/intermediate.key.sealed');
    expect(readFileSync(file).includes(Buffer.from(made.publicKeySpki).subarray(-64))).toBe(false);
    expect(readFileSync(join(folder, 'secret'), 'utf8')).toMatch(/^[0-9a-f]{64}\n$/);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const again = await (await open()).find('intermediate');
    expect(again?.publicKeySpki).toEqual(made.publicKeySpki);
    expect(readdirSync(join(folder, 'keys'))).toEqual(['intermediate.key.sealed']);
  });

  test('refuses to make a new secret when keys are there', async () => {
    await (await open()).generate('intermediate');
    rmSync(join(folder, 'secret'));
    expect((await refusalOf(open())).reason).toBe('key_secret_missing');
  });

  test('refuses a key file of which any byte was changed, cut off or put there, and keeps it', async () => {
    await (await open()).generate('intermediate');
    const file = join(folder, 'keys/intermediate.key.sealed');
    const sealed = readFileSync(file);
    const requireRefused = async (content: Uint8Array): Promise<void> => {
      writeFileSync(file, content);
      expect((await refusalOf((await open()).find('intermediate'))).reason).toBe('key_unreadable');
      expect(readFileSync(file).equals(content)).toBe(true);
    };
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await requireRefused(changed);
      await requireRefused(sealed.subarray(0, at));
    }
    await requireRefused(Buffer.concat([sealed, Buffer.alloc(1)]));
    await requireRefused(Buffer.alloc(20_000));
  });

  test('refuses one key file in the place of another, a link, and one that others may read', async () => {
    const keys = await open();
    for (const name of ['policy', 'intermediate']) await keys.generate(name);
    const file = (name: string): string => join(folder, `keys/${name}.key.sealed`);
    copyFileSync(file('policy'), file('intermediate'));
    expect((await refusalOf((await open()).find('intermediate'))).reason).toBe('key_unreadable');
    rmSync(file('intermediate'));
    symlinkSync(file('policy'), file('intermediate'));
    expect((await refusalOf((await open()).find('intermediate'))).reason).toBe('key_unreadable');
    chmodSync(file('policy'), 0o640);
    expect((await refusalOf((await open()).find('policy'))).reason).toBe('key_permissions');
  });

  test('refuses another secret, and one that is none', async () => {
    await (await open()).generate('intermediate');
    writeFileSync(join(folder, 'secret'), `${'0'.repeat(64)}\n`);
    const keys = await open();
    expect((await refusalOf(keys.find('intermediate'))).reason).toBe('key_unreadable');
    writeFileSync(join(folder, 'secret'), 'short');
    expect((await refusalOf(open())).reason).toBe('key_secret_invalid');
  });

  test('refuses a directory or a secret that others may read', async () => {
    await open();
    chmodSync(join(folder, 'secret'), 0o644);
    expect((await refusalOf(open())).reason).toBe('key_permissions');
    chmodSync(join(folder, 'secret'), 0o600);
    chmodSync(join(folder, 'keys'), 0o750);
    expect((await refusalOf(open())).reason).toBe('key_permissions');
  });
});

describe('encryptPkcs8()', () => {
  test('writes what OpenSSL reads, and reads it back', async () => {
    const pkcs8 = await generatePkcs8();
    const pem = await encryptPkcs8(pkcs8, 'a passphrase');
    expect(readPkcs8Pem(pem, 'a passphrase')).toEqual(pkcs8);
    const plain = await runOk(['openssl', 'pkey', '-passin', 'pass:a passphrase'], { stdin: pem });
    expect(readPkcs8Pem(plain, undefined)).toEqual(pkcs8);
  });

  test('readPkcs8Pem() refuses a wrong passphrase, none, and what is no key', async () => {
    const pem = await encryptPkcs8(await generatePkcs8(), 'right', 1000);
    expect(reasonOf(() => readPkcs8Pem(pem, 'wrong'))).toBe('key_unreadable');
    expect(reasonOf(() => readPkcs8Pem(pem, undefined))).toBe('passphrase_missing');
    expect(reasonOf(() => readPkcs8Pem(`${pem}${pem}`, 'right'))).toBe('key_unreadable');
    expect(reasonOf(() => readPkcs8Pem('', 'right'))).toBe('key_unreadable');
  });
});
