import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
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
    const file = join(folder, 'keys/intermediate.key.pem');
    expect(readFileSync(file, 'utf8')).toStartWith('-----BEGIN ENCRYPTED PRIVATE KEY-----');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const again = await (await open()).find('intermediate');
    expect(again?.publicKeySpki).toEqual(made.publicKeySpki);
    expect(readdirSync(join(folder, 'keys'))).toEqual(['intermediate.key.pem']);
  });

  test('refuses to make a new secret when keys are there', async () => {
    await (await open()).generate('intermediate');
    rmSync(join(folder, 'secret'));
    expect((await refusalOf(open())).reason).toBe('key_secret_missing');
  });

  test('refuses another secret, and a damaged file', async () => {
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
