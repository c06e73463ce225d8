import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { readBackupLines } from './backup-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'picket-backup-file-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(content: string): string {
  const path = join(folder, 'file');
  writeFileSync(path, content);
  return path;
}

async function read(path: string, maxCharacters?: number): Promise<readonly string[]> {
  return await Array.fromAsync(readBackupLines(path, maxCharacters));
}

describe('readBackupLines()', () => {
  test('gives every line, with and without a newline at the end', async () => {
    for (const text of ['', 'a', 'a\n', 'a\nb', '\n\na\n'])
      expect(await read(fileOf(text))).toEqual(
        text
          .replace(/\n$/, '')
          .split('\n')
          .slice(text === '' ? 1 : 0),
      );
  });

  test('gives lines that are longer than what is read at once, whatever letters are cut', async () => {
    const lines = [1, 65_535, 65_536, 65_537, 300_000].map((length) => 'é'.repeat(length));
    expect(await read(fileOf(lines.join('\n')))).toEqual(lines);
  });

  test('loses nothing to a reader that begins late', async () => {
    const reader = readBackupLines(fileOf('first\nsecond\n'));
    await Bun.sleep(50);
    expect(await Array.fromAsync(reader)).toEqual(['first', 'second']);
  });

  test('refuses a line beyond the bound, and a file that cannot be read', async () => {
    expect(await refusalOf(read(fileOf('a'.repeat(100_000)), 99_999))).toMatchObject({
      reason: 'backup_invalid',
    });
    expect(await read(fileOf('a'.repeat(100_000)), 100_000)).toHaveLength(1);
    for (const path of [join(folder, 'none'), folder])
      expect(await refusalOf(read(path))).toMatchObject({ reason: 'backup_unreadable' });
  });
});
