import { describe, expect, test } from 'bun:test';
import { newEntry, type Entry } from '../../shared/protocol/registration.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { earnedEntries, inOrderOfPreference, isDigestWanted, mostSpecificEntry } from './earned-entries.ts';

let made = 0;

function entryOf(path: string, ...selectors: string[]): Entry {
  const parentId = 'spiffe://td.test/picket/agent/tpm/a';
  return {
    ...newEntry.parse({ spiffeId: `spiffe://td.test${path}`, parentId, selectors }),
    entryId: `00000000-0000-4000-8000-${String(++made).padStart(12, '0')}`,
    revision: 1,
    createdAt: '2026-01-01T00:00:00.000Z',
  };
}

const user = entryOf('/user', 'unix:uid:1');
const program = entryOf('/program', 'unix:uid:1', 'unix:path:/bin/a');
const group = entryOf('/group', 'unix:gid:1');
const both = entryOf('/both', 'unix:uid:1', 'unix:path:/bin/a', 'unix:gid:1');

test('earnedEntries() asks for every selector of an entry', () => {
  const present = new Set(['unix:uid:1', 'unix:gid:2'].map(parseSelector));
  expect(earnedEntries([user, program, group], present)).toEqual([user]);
});

test('earnedEntries() gives who lives in another namespace only what names it', () => {
  const pod = entryOf('/pod', 'unix:uid:1', 'netns:name:pod');
  const other = entryOf('/other', 'unix:uid:1', 'netns:name:other');
  const earnedIn = (...names: string[]): ReturnType<typeof earnedEntries> =>
    earnedEntries([user, pod, other], new Set(['unix:uid:1', ...names].map(parseSelector)));
  expect(earnedIn()).toEqual([user]);
  expect(earnedIn('netns:name:pod', 'netns:inode:7')).toEqual([pod]);
  expect(earnedIn('netns:inode:7')).toEqual([]);
});

test('isDigestWanted() does not wait for what another attestor says', () => {
  const entry = entryOf('/hashed', 'netns:name:pod', `unix:sha256:${'0'.repeat(64)}`);
  expect(isDigestWanted([entry], [])).toBe(true);
});

describe('mostSpecificEntry()', () => {
  test.each([
    ['none', [], undefined],
    ['the only one', [user], user],
    ['the one that says more', [user, program], program],
    ['undecided between unrelated ones', [user, group], undefined],
    ['undecided, however many selectors one of them has', [program, group], undefined],
    ['the one above two unrelated ones', [user, group, program, both], both],
  ] as const)('%s', (_name, entries, expected) => {
    expect(mostSpecificEntry(entries)).toEqual(expected);
    expect(mostSpecificEntry(entries.toReversed())).toEqual(expected);
  });

  test('two entries of one identity do not compete', () => {
    const again = entryOf('/user', 'unix:gid:1');
    expect(mostSpecificEntry([user, again])?.spiffeId).toBe(user.spiffeId);
  });

  test('the same selectors for two identities are undecided', () => {
    expect(mostSpecificEntry([user, entryOf('/other', 'unix:uid:1', 'unix:uid:1')])).toBeUndefined();
  });
});

test('inOrderOfPreference() begins with the most specific entry and is the same in every order', () => {
  const expected = [both, program, user, group];
  expect(inOrderOfPreference([user, group, program, both])).toEqual(expected);
  expect(inOrderOfPreference([both, program, group, user])).toEqual(expected);
});

test('isDigestWanted() only where nothing but the digest is missing', () => {
  const digest = `unix:sha256:${'0'.repeat(64)}`;
  const entries = [user, entryOf('/pinned', 'unix:uid:1', digest)];
  expect(isDigestWanted(entries, [parseSelector('unix:uid:1')])).toBe(true);
  expect(isDigestWanted(entries, [parseSelector('unix:uid:2')])).toBe(false);
  expect(isDigestWanted([user], [parseSelector('unix:uid:1')])).toBe(false);
  expect(isDigestWanted([user], [])).toBe(false);
});
