import { describe, expect, test } from 'bun:test';
import { closeSync, openSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { findDiskSpace, parseDescriptorLimit, readDescriptorUse } from './process-limits.ts';

describe('readDescriptorUse()', () => {
  test('readDescriptorUse() counts what is opened, below the limit', () => {
    const before = readDescriptorUse();
    const opened = Array.from({ length: 10 }, () => openSync('/dev/null', 'r'));
    const { open, limit } = readDescriptorUse();
    for (const fd of opened) closeSync(fd);
    expect(open).toBe(before.open + 10);
    expect(limit).toBeGreaterThan(open);
  });
});

describe('parseDescriptorLimit()', () => {
  test('parseDescriptorLimit() takes the soft limit, and no limit for one', () => {
    const line = (soft: string): string =>
      `Limit                     Soft Limit           Hard Limit           Units\nMax open files            ${soft.padEnd(20)} 1048576              files\n`;
    expect(parseDescriptorLimit(line('1024'))).toBe(1024);
    expect(parseDescriptorLimit(line('unlimited'))).toBe(Infinity);
    expect(parseDescriptorLimit('')).toBe(Infinity);
  });
});

describe('findDiskSpace()', () => {
  test('findDiskSpace() tells of a folder, and nothing of a path that is not there', () => {
    const space = findDiskSpace(tmpdir());
    expect(space?.totalBytes).toBeGreaterThan(space?.freeBytes ?? Infinity);
    expect(findDiskSpace('/nonexistent/path')).toBeUndefined();
  });
});
