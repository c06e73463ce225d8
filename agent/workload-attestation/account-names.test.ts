import { describe, expect, test } from 'bun:test';
import { mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../shared/runtime/log.ts';
import { AccountNames, parseAccountNames } from './account-names.ts';

describe('parseAccountNames()', () => {
  test('gives an id the first of its names', () => {
    const names = parseAccountNames('root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nweb:x:33:\n');
    expect([...names]).toEqual([
      [0, 'root'],
      [33, 'web'],
    ]);
  });

  test('passes over lines that name nobody', () => {
    const text =
      '\n:::\nx\nx:y\nx:y:\nx:y:-1\nx:y:0x1\nx:y:99999999999\n+:::\n+nis:x:5:\n#c:x:6:\n-no:x:7:\nok:x:8';
    expect([...parseAccountNames(text)]).toEqual([[8, 'ok']]);
  });
});

describe('AccountNames', () => {
  test('find() reads the file again when it was changed, replaced or removed, and refuses one that is too large', () => {
    const folder = mkdtempSync(join(tmpdir(), 'picket-accounts-'));
    try {
      const lines: string[] = [];
      const log = createLog({ level: 'info', nowMs: () => 0, write: (line) => lines.push(line) });
      const file = join(folder, 'passwd');
      const names = new AccountNames(file, log);
      expect(names.find(1)).toBeUndefined();
      writeFileSync(file, 'one:x:1:1::/:\n');
      expect(names.find(1)).toBe('one');
      writeFileSync(join(folder, 'new'), 'uno:x:1:1::/:\n');
      renameSync(join(folder, 'new'), file);
      expect(names.find(1)).toBe('uno');
      truncateSync(file, 4 * 1024 * 1024 + 1);
      expect(names.find(1)).toBeUndefined();
      expect(lines.join()).toContain('account_names_unreadable');
      rmSync(file);
      expect(names.find(1)).toBeUndefined();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
