import { readFileSync, readlinkSync } from 'node:fs';
import type { ProcessReference } from './workload-attestor.ts';

/** What the kernel says of a process at one moment, without asking any file system but /proc. */
export interface ProcessFacts extends ProcessReference {
  /** Real, effective, saved and file-system user; what it may do goes by the effective one. */
  readonly uids: readonly number[];
  readonly gids: readonly number[];
  readonly groups: readonly number[];
  /** What /proc/PID/exe points to; undefined where that may not be read. */
  readonly executablePath: string | undefined;
  /** Such as `mnt:[4026531832]`; undefined where that may not be read. */
  readonly mountNamespace: string | undefined;
  /** Such as `net:[4026531840]`; undefined where that may not be read. */
  readonly networkNamespace: string | undefined;
  /**
   * All of it as one text, with the addresses of program and stack, which each exec(2) draws anew: as long as it is the same, this is the
   * same process running the same program with the same rights.
   */
  readonly fingerprint: string;
}

/** Index of effective ids among the four. */
export const EFFECTIVE = 1;

/** Fields of /proc/PID/stat, counted from the one behind the program's name (proc(5), field 3). */
const STATE = 0;
const START_TIME = 22 - 3;
const START_CODE = 26 - 3;
const AFTER_START_STACK = 29 - 3;

const ZERO = 0x30;
/** uid_t, gid_t */
const MAX_ID = 0xffffffff;

/** The facts of a process; undefined when there is none, or one that has ended and waits for its parent. 32 us, nearly all of them the kernel's. */
export function readProcessFacts(pid: number): ProcessFacts | undefined {
  const stat = parseStat(read(`/proc/${pid}/stat`) ?? '');
  const status = parseStatus(read(`/proc/${pid}/status`) ?? '');
  if (stat === undefined || status === undefined) return undefined;
  const executablePath = readLink(`/proc/${pid}/exe`);
  const mountNamespace = readLink(`/proc/${pid}/ns/mnt`);
  const networkNamespace = readLink(`/proc/${pid}/ns/net`);
  const { startTime, addresses } = stat;
  const { uids, gids, groups } = status;
  return {
    pid,
    startTime,
    uids,
    gids,
    groups,
    executablePath,
    mountNamespace,
    networkNamespace,
    // The path may hold anything, and stands last.
    fingerprint: [
      startTime,
      addresses,
      uids,
      gids,
      groups,
      mountNamespace,
      networkNamespace,
      executablePath,
    ].join('|'),
  };
}

/** Whether a process is still what it was when its facts were read. */
export function isUnchanged(facts: ProcessFacts): boolean {
  return readProcessFacts(facts.pid)?.fingerprint === facts.fingerprint;
}

/**
 * As `isUnchanged`, also where the file of its program was replaced or removed since, as an upgrade does: the kernel tells that by a word behind the path. Only who may write to the
 * folder of a program can give another one that name.
 */
export function isSameProgram(facts: ProcessFacts): boolean {
  const now = readProcessFacts(facts.pid);
  return now !== undefined && withoutDeletion(now.fingerprint) === withoutDeletion(facts.fingerprint);
}

const DELETED = ' (deleted)';

/** The path stands last. */
function withoutDeletion(fingerprint: string): string {
  return fingerprint.endsWith(DELETED) ? fingerprint.slice(0, -DELETED.length) : fingerprint;
}

/** Start time and addresses out of /proc/PID/stat; undefined for a process that has ended, and for what is no such text. */
export function parseStat(
  stat: string,
): { readonly startTime: bigint; readonly addresses: string } | undefined {
  // The name stands in parentheses and may itself hold spaces and parentheses.
  const end = stat.lastIndexOf(')');
  if (end < 0) return undefined;
  const fields = stat.slice(end + 2).split(' ');
  const startTime = fields[START_TIME];
  if (startTime === undefined || !/^\d{1,20}$/.test(startTime)) return undefined;
  if (/^[ZXx]$/.test(fields[STATE] ?? 'X')) return undefined;
  return { startTime: BigInt(startTime), addresses: fields.slice(START_CODE, AFTER_START_STACK).join(' ') };
}

/** Users and groups out of /proc/PID/status; undefined for what is no such text. */
export function parseStatus(status: string): Pick<ProcessFacts, 'uids' | 'gids' | 'groups'> | undefined {
  const uids = parseIds(status, 'Uid');
  const gids = parseIds(status, 'Gid');
  const groups = parseIds(status, 'Groups');
  if (uids?.length !== 4 || gids?.length !== 4 || groups === undefined) return undefined;
  return { uids, gids, groups };
}

/**
 * A program chooses its name, which stands in the same text. The kernel escapes line feeds in it but not carriage returns, at which a
 * regular expression would begin a new line.
 */
function parseIds(status: string, name: string): readonly number[] | undefined {
  const label = `${name}:`;
  const start = status.startsWith(label) ? 0 : status.indexOf(`\n${label}`) + 1;
  if (start === 0 && !status.startsWith(label)) return undefined;
  const end = status.indexOf('\n', start);
  return parseNumbers(status.slice(start + label.length, end < 0 ? undefined : end));
}

/** Numbers between tabs and spaces; undefined for anything else. */
function parseNumbers(text: string): readonly number[] | undefined {
  const numbers: number[] = [];
  let value: number | undefined;
  for (let i = 0; i <= text.length; i++) {
    const digit = text.charCodeAt(i) - ZERO;
    if (digit >= 0 && digit <= 9) value = (value ?? 0) * 10 + digit;
    else if (i === text.length || text[i] === '\t' || text[i] === ' ') {
      if (value !== undefined) numbers.push(value);
      value = undefined;
    } else return undefined;
    if (value !== undefined && value > MAX_ID) return undefined;
  }
  return numbers;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
