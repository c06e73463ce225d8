import { afterAll, describe, expect, test } from 'bun:test';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import { sealedStoreContract } from './contract.ts';
import { openSealedDisk } from './sealed-disk.ts';

const root = mkdtempSync(join(tmpdir(), 'picket-sealed-'));
let made = 0;
const fresh = (): string => join(root, `store-${made++}`);

afterAll(() => rmSync(root, { recursive: true, force: true }));

sealedStoreContract('sealed-disk', async () => await openSealedDisk({ directory: fresh() }));

async function refusal(work: Promise<unknown>): Promise<PicketError> {
  const error = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!(error instanceof PicketError)) throw new Error('expected a refusal', { cause: error });
  return error;
}

describe('openSealedDisk()', () => {
  test('makes the directory 0700, the key 0400 and the values 0600', async () => {
    const directory = fresh();
    const store = await openSealedDisk({ directory });
    await store.write('agent-svid', Buffer.from('secret'));
    const mode = (path: string): number => statSync(path).mode & 0o777;
    expect(mode(directory)).toBe(0o700);
    expect(mode(join(directory, 'seal.key'))).toBe(0o400);
    expect(mode(join(directory, 'agent-svid.sealed'))).toBe(0o600);
  });

  test('finds its values again after a restart, and holds no plaintext on disk', async () => {
    const directory = fresh();
    await (await openSealedDisk({ directory })).write('a', Buffer.from('the very secret text'));
    const again = await openSealedDisk({ directory });
    expect(Buffer.from((await again.read('a'))!).toString()).toBe('the very secret text');
    for (const name of readdirSync(directory))
      expect(readFileSync(join(directory, name)).includes('very secret')).toBe(false);
  });

  test('takes the key from the credentials directory when systemd gives one', async () => {
    const credentials = mkdtempSync(join(root, 'credentials-'));
    writeFileSync(join(credentials, 'picket-seal-key'), Buffer.alloc(32, 7), { mode: 0o400 });
    const directory = fresh();
    const store = await openSealedDisk({ directory, credentialsDirectory: credentials });
    await store.write('a', Buffer.from('x'));
    expect(readdirSync(directory)).toEqual(['a.sealed']);
    const error = await refusal(openSealedDisk({ directory }));
    expect([error.code, error.reason]).toEqual(['failed_precondition', 'seal_key_missing']);
  });

  test.each([
    ['a directory that others may enter', (d: string) => chmodSync(d, 0o755), 'seal_permissions'],
    ['a key that others may read', (d: string) => chmodSync(join(d, 'seal.key'), 0o440), 'seal_permissions'],
    ['a key of another length', (d: string) => rewriteKey(d, Buffer.alloc(31)), 'seal_key_invalid'],
    ['sealed values without their key', (d: string) => rmSync(join(d, 'seal.key')), 'seal_key_missing'],
  ] as const)('refuses %s', async (_what, spoil, reason) => {
    const directory = fresh();
    await (await openSealedDisk({ directory })).write('a', Buffer.from('x'));
    spoil(directory);
    const error = await refusal(openSealedDisk({ directory }));
    expect([error.code, error.reason]).toEqual(['failed_precondition', reason]);
  });

  test('removes the drafts that a crash left', async () => {
    const directory = fresh();
    await (await openSealedDisk({ directory })).write('a', Buffer.from('x'));
    writeFileSync(join(directory, 'a.sealed.99-0'), 'half');
    await openSealedDisk({ directory });
    expect(readdirSync(directory).sort()).toEqual(['a.sealed', 'seal.key']);
  });

  test('two that start at once agree on one key', async () => {
    const directory = fresh();
    const [one, two] = await Promise.all([openSealedDisk({ directory }), openSealedDisk({ directory })]);
    await one.write('a', Buffer.from('x'));
    expect(Buffer.from((await two.read('a'))!).toString()).toBe('x');
  });
});

describe('SealedDisk.read()', () => {
  test('refuses a file in which any one byte was changed or the end is missing', async () => {
    const directory = fresh();
    const store = await openSealedDisk({ directory });
    await store.write('a', Buffer.from('abc'));
    const path = join(directory, 'a.sealed');
    const good = readFileSync(path);
    for (let index = 0; index < good.length; index++) {
      const bad = Buffer.from(good);
      bad[index]! ^= 1;
      writeFileSync(path, bad);
      expect((await refusal(store.read('a'))).reason).toBe('seal_broken');
      writeFileSync(path, good.subarray(0, index));
      expect((await refusal(store.read('a'))).reason).toBe('seal_broken');
    }
  });

  test('refuses a value that was sealed under another name or by another key', async () => {
    const directory = fresh();
    const store = await openSealedDisk({ directory });
    await store.write('a', Buffer.from('abc'));
    const file = readFileSync(join(directory, 'a.sealed'));
    writeFileSync(join(directory, 'b.sealed'), file, { mode: 0o600 });
    expect((await refusal(store.read('b'))).reason).toBe('seal_broken');
    rewriteKey(directory, Buffer.alloc(32, 9));
    expect((await refusal((await openSealedDisk({ directory })).read('a'))).reason).toBe('seal_broken');
  });

  test('refuses a name that could leave the directory', async () => {
    const store = await openSealedDisk({ directory: fresh() });
    for (const name of ['', '../a', 'a/b', 'A', '.a', 'a'.repeat(65)])
      expect(store.read(name)).rejects.toThrow(TypeError);
  });
});

function rewriteKey(directory: string, key: Uint8Array): void {
  rmSync(join(directory, 'seal.key'));
  writeFileSync(join(directory, 'seal.key'), key, { mode: 0o400 });
}
