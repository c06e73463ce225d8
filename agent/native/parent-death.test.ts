import { describe, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { dieWithParent } from './parent-death.ts';

describe('dieWithParent()', () => {
  test('ends a process with the one that started it, however that ends', async () => {
    const parent = Bun.spawn([process.execPath, join(import.meta.dirname, 'fixtures/orphan.ts')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const { value } = await parent.stdout.getReader().read();
    const child = Buffer.from(value ?? [])
      .toString()
      .trim();
    expect(existsSync(`/proc/${child}`)).toBe(true);
    parent.kill('SIGKILL');
    await waitUntil('the child has ended', () => !existsSync(`/proc/${child}`));
  });

  test('refuses one that has another parent by now', () => {
    expect(reasonOf(() => dieWithParent(process.pid))).toBe('parent_gone');
  });
});
