import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { parseSubordinateUsers, SubordinateUsers } from './subordinate-users.ts';

describe('parseSubordinateUsers()', () => {
  test('reads what useradd writes, and passes over lines that are no range', () => {
    const lines = ['alice:100000:65536', '#bob:1:1', '', 'bob', 'bob:x:5', 'bob:5', 'bob:7:0', ':9:1'];
    const wrong = [...lines, 'bob:99999999999:1', 'bob:1:-1', 'carol:4294967295:1', '7001:300000:1'];
    expect(parseSubordinateUsers(wrong.join('\n'))).toEqual([
      { owner: 'alice', first: 100_000, last: 165_535 },
      { owner: '7001', first: 300_000, last: 300_000 },
    ]);
  });

  test('gives nobody twice, and no more than the last user', () => {
    const text = 'late:150:100\nearly:100:100\nwithin:120:10\nall:4000000000:4000000000\n';
    expect(parseSubordinateUsers(text)).toEqual([
      { owner: 'early', first: 100, last: 199 },
      { owner: 'late', first: 200, last: 249 },
      { owner: 'all', first: 4_000_000_000, last: 0xffff_fffe },
    ]);
  });

  test('reads no more ranges than so many', () => {
    const text = Array.from({ length: 600 }, (_, n) => `u${n}:${100_000 + 10 * n}:10`).join('\n');
    expect(parseSubordinateUsers(text)).toHaveLength(512);
  });
});

describe('SubordinateUsers', () => {
  let folder: string;
  let path: string;
  let accountsPath: string;
  let lines: string[];
  let users: SubordinateUsers;
  const clock = new FakeClock();

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'picket-subuid-'));
    path = join(folder, 'subuid');
    lines = [];
    const log = createLog({ level: 'warn', nowMs: () => 0, write: (line) => void lines.push(line) });
    accountsPath = join(folder, 'passwd');
    users = new SubordinateUsers({ path, accountsPath, clock, log });
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const partiesOf = (...uids: readonly number[]): readonly string[] => uids.map((uid) => users.partyOf(uid));

  test('has one party for all users of an owner, in whichever of his ranges, and one for each other user', () => {
    writeFileSync(path, 'alice:100000:10\nbob:100010:10\nalice:200000:10\n');
    expect(partiesOf(100_000, 100_009, 200_009)).toEqual(Array.from({ length: 3 }, () => 'users of alice'));
    expect(partiesOf(100_010, 99_999, 100_020, 0)).toEqual([
      'users of bob',
      'uid 99999',
      'uid 100020',
      'uid 0',
    ]);
  });

  test('takes the owner of a range, and all users in his ranges, for one who may be each of them, and nobody else', () => {
    writeFileSync(path, 'alice:100000:10\nbob:100010:10\nalice:200000:10\n1003:300000:10\n');
    writeFileSync(accountsPath, 'alice:x:1001:1001::/:\nbob:x:1002:1002::/:\ncarol:x:1003:1003::/:\n');
    const mayBeOne = (uid: number, other: number): boolean => {
      const may = users.mayBeOne(uid, other);
      expect(users.mayBeOne(other, uid)).toBe(may);
      return may;
    };
    for (const [uid, other] of [
      [7, 7],
      [1001, 100_000],
      [1001, 200_009],
      [100_009, 200_000],
      [1002, 100_010],
      [1003, 300_000],
    ] as const)
      expect([uid, other, mayBeOne(uid, other)]).toEqual([uid, other, true]);
    for (const [uid, other] of [
      [1001, 1002],
      [1001, 100_010],
      [100_009, 100_010],
      [1002, 300_000],
      [7, 1001],
    ] as const)
      expect([uid, other, mayBeOne(uid, other)]).toEqual([uid, other, false]);
    // An account that the file does not have may have any name.
    expect(mayBeOne(7, 100_000)).toBe(true);
  });

  test('tells all users whom one may be, in as few spans as there can be, but of those in a range', () => {
    writeFileSync(path, 'alice:100000:10\nbob:100010:10\nalice:200000:10\nalice:200010:5\n');
    writeFileSync(accountsPath, 'alice:x:1001:1001::/:\nbob:x:1002:1002::/:\ncarol:x:1003:1003::/:\n');
    expect(users.findAllOne(1001)).toEqual([
      { first: 1001, last: 1001 },
      { first: 100_000, last: 100_009 },
      { first: 200_000, last: 200_014 },
    ]);
    expect(users.findAllOne(1003)).toEqual([{ first: 1003, last: 1003 }]);
    expect(users.findAllOne(100_000)).toBeUndefined();
    // Of an account that the file does not have nobody knows the name.
    expect(users.findAllOne(7)).toEqual([
      { first: 7, last: 7 },
      { first: 100_000, last: 100_019 },
      { first: 200_000, last: 200_014 },
    ]);
  });

  test('looks at the file again after five seconds, and goes without one that is too large, or gone', () => {
    expect(partiesOf(100_000)).toEqual(['uid 100000']);
    writeFileSync(path, 'alice:100000:10\n');
    expect(partiesOf(100_000)).toEqual(['uid 100000']);
    clock.advance(5000);
    expect(partiesOf(100_000)).toEqual(['users of alice']);
    truncateSync(path, 1024 * 1024);
    clock.advance(5000);
    expect(partiesOf(100_000)).toEqual(['uid 100000']);
    expect(lines).toHaveLength(1);
    rmSync(path);
    clock.advance(5000);
    expect(users.ranges).toEqual([]);
    expect(lines).toHaveLength(1);
  });
});
