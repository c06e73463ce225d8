import { ptr } from 'bun:ffi';
import { readdirSync } from 'node:fs';
import { allocateNative, libc } from './libc.ts';

/** A process that has a socket open, at one of its descriptors. */
export interface SocketHolder {
  readonly inode: number;
  readonly pid: number;
  /** The thread in whose descriptor table the socket stands; the process itself, unless the thread has one of its own. */
  readonly tid: number;
  readonly fd: number;
  /**
   * Where the search tells it: what the process was when the socket was seen. As long as it is the same, this is the same process, it runs the same
   * program (each exec(2) counts), has the same users and groups, and is in the same namespaces.
   */
  readonly stamp?: string;
}

/** All that was found; not complete when the time or the space was used up. */
export interface HolderScan {
  readonly holders: readonly SocketHolder[];
  readonly isComplete: boolean;
}

const O_RDONLY_DIRECTORY_CLOEXEC = 0o200000 | 0o2000000;
const MAX_HOLDERS = 16_384;

/** struct linux_dirent64: inode u64 | offset u64 | length u16 | type u8 | name, ended by a zero. */
const ENTRY_LENGTH = 16;
const ENTRY_NAME = 19;
const DOT = 0x2e;

/** `socket:[4294967295]` and more. */
const LINK_BYTES = 64;

const path = allocateNative(64);
const entries = allocateNative(64 * 1024);
const link = allocateNative(LINK_BYTES);

/**
 * Every process that holds one of these sockets, by the descriptors of all processes except this one, each process once a socket. It is all
 * the kernel's work: 28 ms on a host with 500 processes and 6,000 descriptors (41 ms by node:fs), so it belongs into a thread. A
 * process whose descriptors may not be read, and a thread with a descriptor table of its own, are not seen.
 */
export function scanSocketHolders(
  inodes: ReadonlySet<number>,
  { maxMs, exceptPid }: { readonly maxMs: number; readonly exceptPid: number },
): HolderScan {
  const links = new Map(Array.from(inodes, (inode) => [`socket:[${inode}]`, inode]));
  const endMs = performance.now() + maxMs;
  const holders: SocketHolder[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === exceptPid) continue;
    const fds = descriptorsOf(pid, links);
    for (const [inode, fd] of fds) holders.push({ inode, pid, tid: pid, fd });
    if (performance.now() > endMs || holders.length > MAX_HOLDERS) return { holders, isComplete: false };
  }
  return { holders, isComplete: true };
}

/** The sockets looked for among the descriptors of a process; none when it has ended. */
function descriptorsOf(pid: number, links: ReadonlyMap<string, number>): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  path.write(`/proc/${pid}/fd\0`);
  const folder = libc().open(path, O_RDONLY_DIRECTORY_CLOEXEC);
  if (folder < 0) return found;
  try {
    for (;;) {
      const length = Number(libc().getdents64(folder, entries, entries.length));
      if (length <= 0) return found;
      matchEntries(folder, { length, links, found });
    }
  } finally {
    libc().close(folder);
  }
}

function matchEntries(
  folder: number,
  {
    length,
    links,
    found,
  }: {
    readonly length: number;
    readonly links: ReadonlyMap<string, number>;
    readonly found: Map<number, number>;
  },
): void {
  const address = ptr(entries);
  for (let at = 0; at < length; at += entries.readUInt16LE(at + ENTRY_LENGTH)) {
    if (entries[at + ENTRY_NAME] === DOT) continue;
    const linkLength = Number(libc().readlinkat(folder, address + at + ENTRY_NAME, link, LINK_BYTES));
    const inode = linkLength > 0 ? findInode(linkLength, links) : undefined;
    if (inode !== undefined) found.set(inode, readName(at + ENTRY_NAME));
  }
}

/** Most links are not to sockets: their first byte spares the text. */
function findInode(length: number, links: ReadonlyMap<string, number>): number | undefined {
  if (link[0] !== 0x73 || link[1] !== 0x6f) return undefined;
  return links.get(link.toString('latin1', 0, length));
}

function readName(at: number): number {
  return Number(entries.toString('latin1', at, entries.indexOf(0, at)));
}
