import { statSync } from 'node:fs';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { AccountNames } from '../workload-attestation/account-names.ts';
import { readBounded } from '../workload-attestation/read-bounded.ts';

/** Users of this host that were all given to one, who can be each of them (subuid(5), user_namespaces(7)). */
export interface UserRange {
  /** As the file names him, or it. */
  readonly owner: string;
  readonly first: number;
  readonly last: number;
}

/** Whose users belong together where each has his share: the parts of `FairShare`. */
export interface UserParties {
  /** The name of the party of a user; the same for all that one can be. */
  partyOf(uid: number): string;
  /** Whether whoever is one of two users may be the other as well, as the owner of a range may within a user namespace: what he has can be either's. True where nobody knows. */
  mayBeOne(uid: number, other: number): boolean;
  /** All users of whom `mayBeOne` with this one is true; undefined where that cannot be told as spans. */
  findAllOne(uid: number): readonly UserSpan[] | undefined;
}

/** From the first to the last. */
export type UserSpan = Pick<UserRange, 'first' | 'last'>;

/** Every user by himself. */
export const SINGLE_USERS: UserParties = {
  partyOf: nameOfUser,
  mayBeOne: (uid, other) => uid === other,
  findAllOne: (uid) => [{ first: uid, last: uid }],
};

const FILE = '/etc/subuid';
const ACCOUNTS = '/etc/passwd';
/** A larger file is not read, and of one no more ranges than these: the others' users stand for themselves. */
const MAX_FILE_BYTES = 256 * 1024;
const MAX_RANGES = 512;
const LOOK_EVERY_MS = 5000;
const MAX_UID = 0xffff_fffe;

/**
 * The ranges of /etc/subuid, looked at again every five seconds at most. Of two that overlap the one that begins first has what is in both. Ranges that come from elsewhere (`subid` in
 * nsswitch.conf) are not known here.
 */
export class SubordinateUsers implements UserParties {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #log: Log;
  readonly #path: string;
  readonly #names: AccountNames;
  #ranges: readonly UserRange[] = [];
  #version = '';
  #lookedMs = -Infinity;

  constructor({
    clock,
    log,
    path = FILE,
    accountsPath = ACCOUNTS,
  }: {
    readonly clock: Pick<Clock, 'monotonicMs'>;
    readonly log: Log;
    /** /etc/subuid unless given. */
    readonly path?: string;
    /** /etc/passwd unless given: which user the owner of a range is. */
    readonly accountsPath?: string;
  }) {
    this.#clock = clock;
    this.#log = log;
    this.#path = path;
    this.#names = new AccountNames(accountsPath, log);
  }

  /** In their order, none of which overlaps another one. */
  get ranges(): readonly UserRange[] {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#lookedMs >= LOOK_EVERY_MS) {
      this.#lookedMs = nowMs;
      this.#look();
    }
    return this.#ranges;
  }

  partyOf(uid: number): string {
    const range = findRange(this.ranges, uid);
    return range === undefined ? nameOfUser(uid) : `users of ${range.owner}`;
  }

  mayBeOne(uid: number, other: number): boolean {
    if (uid === other) return true;
    const [range, ofOther] = [findRange(this.ranges, uid), findRange(this.ranges, other)];
    if (range !== undefined && range.owner === ofOther?.owner) return true;
    return this.#mayOwn(other, range) || this.#mayOwn(uid, ofOther);
  }

  findAllOne(uid: number): readonly UserSpan[] | undefined {
    // Who in a range may be its owner, or anybody whose name is not known.
    if (findRange(this.ranges, uid) !== undefined) return undefined;
    return [{ first: uid, last: uid }, ...joinSpans(this.ranges.filter((range) => this.#mayOwn(uid, range)))];
  }

  #mayOwn(uid: number, range: UserRange | undefined): boolean {
    if (range === undefined) return false;
    const name = this.#names.find(uid);
    if (range.owner === String(uid) || range.owner === name) return true;
    // Of an account from elsewhere nobody knows the name here.
    return name === undefined && findRange(this.ranges, uid) === undefined;
  }

  #look(): void {
    try {
      const version = readVersion(this.#path);
      if (version === this.#version) return;
      this.#version = version;
      this.#ranges =
        version === NO_FILE ? [] : parseSubordinateUsers(readBounded(this.#path, MAX_FILE_BYTES));
    } catch (error) {
      this.#ranges = [];
      this.#log.warn('subordinate_users_unreadable', { path: this.#path, error });
    }
  }
}

/** The ranges of lines `owner:first:count`, as `SubordinateUsers.ranges`. Lines that are none are passed over, as newuidmap(1) does. */
export function parseSubordinateUsers(text: string): readonly UserRange[] {
  const read = text.split('\n').flatMap((line) => parseRange(line) ?? []);
  const ranges: UserRange[] = [];
  let free = 0;
  for (const range of read.slice(0, MAX_RANGES).toSorted((a, b) => a.first - b.first)) {
    const first = Math.max(range.first, free);
    if (first > range.last) continue;
    ranges.push({ ...range, first });
    free = range.last + 1;
  }
  return ranges;
}

function parseRange(line: string): UserRange | undefined {
  const [, owner, first, count] = /^([^:#\s]+):(\d{1,10}):(\d{1,10})\s*$/.exec(line) ?? [];
  if (owner === undefined) return undefined;
  const last = Math.min(Number(first) + Number(count) - 1, MAX_UID);
  return Number(first) > last ? undefined : { owner, first: Number(first), last };
}

/** As few spans as there can be, in their order. */
function joinSpans(ranges: readonly UserSpan[]): readonly UserSpan[] {
  const spans: UserSpan[] = [];
  for (const { first, last } of ranges) {
    const before = spans.at(-1);
    if (before?.last === first - 1) spans[spans.length - 1] = { first: before.first, last };
    else spans.push({ first, last });
  }
  return spans;
}

function findRange(ranges: readonly UserRange[], uid: number): UserRange | undefined {
  let [from, to] = [0, ranges.length - 1];
  while (from <= to) {
    const middle = (from + to) >> 1;
    const range = ranges[middle];
    if (range === undefined) return undefined;
    if (uid < range.first) to = middle - 1;
    else if (uid > range.last) from = middle + 1;
    else return range;
  }
  return undefined;
}

function nameOfUser(uid: number): string {
  return `uid ${uid}`;
}

const NO_FILE = 'none';

function readVersion(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? NO_FILE : `${stat.dev} ${stat.ino} ${stat.size} ${stat.ctimeNs}`;
}
