import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tryLockFile } from './file-lock.ts';

const folder = mkdtempSync(join(tmpdir(), 'picket-lock-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('tryLockFile() locks once, until it is unlocked', () => {
  const path = join(folder, 'once');
  const unlock = tryLockFile(path);
  expect(unlock).toBeDefined();
  expect(tryLockFile(path)).toBeUndefined();
  unlock?.();
  unlock?.();
  const again = tryLockFile(path);
  expect(again).toBeDefined();
  again?.();
});

test('tryLockFile() sees the lock of another process, and that it goes with it however it ends', async () => {
  const path = join(folder, 'other');
  writeFileSync(path, '');
  const child = Bun.spawn(['flock', '--no-fork', path, 'sh', '-c', 'echo locked; exec sleep 60'], {
    stdout: 'pipe',
  });
  await child.stdout.getReader().read();
  expect(tryLockFile(path)).toBeUndefined();
  child.kill('SIGKILL');
  await child.exited;
  const unlock = tryLockFile(path);
  expect(unlock).toBeDefined();
  unlock?.();
});

test('tryLockFile() follows no link', () => {
  writeFileSync(join(folder, 'elsewhere'), '');
  symlinkSync(join(folder, 'elsewhere'), join(folder, 'link'));
  expect(() => tryLockFile(join(folder, 'link'))).toThrow('ELOOP');
});
