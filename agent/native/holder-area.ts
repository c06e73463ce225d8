import type { SocketHolder } from './socket-holders.ts';

/**
 * The memory by which the agent and its programs in the kernel speak: it says which sockets it looks for, they write down who holds them. Socket
 * inodes are looked up by their last 16 bits, one bit for each, so some records are of no interest.
 *
 *     records u32 | process to leave out u32 | 1 where records are missing u32 | 0 u32
 *     sought: 65,536 bits
 *     records
 */
export const HOLDER_AREA = {
  count: 0,
  exceptPid: 4,
  isCut: 8,
  sought: 16,
  soughtMask: 0xffff,
  records: 16 + 8192,
  maxRecords: 4096,
  recordBytes: 96,
  bytes: 16 + 8192 + 4096 * 96,
} as const;

/**
 * One record: a descriptor, and what its process was at that moment, as far as the program tells (see `SocketHolder.stamp`).
 *
 *     inode u32 | descriptor u32 | thread u32
 *     process u32 | started, ns since boot u64 | number of exec(2)s u64
 *     user, group, saved both, effective both, of the file system both u32 each | hash of the supplementary groups u64
 *     program's inode u64 | program's device u32 | mount namespace u32 | user namespace u32 | 0 u32
 */
export const HOLDER_RECORD = {
  inode: 0,
  fd: 4,
  tid: 8,
  pid: 12,
  startTime: 16,
  execs: 24,
  ids: 32,
  groups: 64,
  program: 72,
  device: 80,
  mountNamespace: 84,
  userNamespace: 88,
  end: 96,
} as const;

/** Marks the sockets that are looked for, or takes the marks away again. */
export function markSought(area: Buffer, inodes: Iterable<number>, isSought: boolean): void {
  for (const inode of inodes) {
    const bit = inode & HOLDER_AREA.soughtMask;
    const at = HOLDER_AREA.sought + (bit >> 3);
    // Eight inodes share a byte: it is cleared as a whole, once all were looked for.
    area[at] = isSought ? (area[at] ?? 0) | (1 << (bit & 7)) : 0;
  }
}

/** Makes the area ready for a search. */
export function clearRecords(area: Buffer, exceptPid: number): void {
  area.writeUInt32LE(0, HOLDER_AREA.count);
  area.writeUInt32LE(exceptPid, HOLDER_AREA.exceptPid);
  area.writeUInt32LE(0, HOLDER_AREA.isCut);
}

/** Whether the program could not write down all. */
export function isCut(area: Buffer): boolean {
  return area.readUInt32LE(HOLDER_AREA.isCut) !== 0;
}

/** What the program wrote down of these sockets, each process once a socket. */
export function readRecords(
  area: Buffer,
  inodes: ReadonlySet<number>,
  { hasStamps }: { readonly hasStamps: boolean },
): readonly SocketHolder[] {
  const holders: SocketHolder[] = [];
  const seen = new Set<number>();
  const count = area.readUInt32LE(HOLDER_AREA.count);
  for (let i = 0; i < count; i++) {
    const at = HOLDER_AREA.records + i * HOLDER_AREA.recordBytes;
    const inode = area.readUInt32LE(at + HOLDER_RECORD.inode);
    const pid = area.readUInt32LE(at + HOLDER_RECORD.pid);
    // A pid has 22 bits at most.
    const key = inode * 2 ** 22 + pid;
    if (!inodes.has(inode) || seen.has(key)) continue;
    seen.add(key);
    holders.push({
      inode,
      pid,
      tid: area.readUInt32LE(at + HOLDER_RECORD.tid),
      fd: area.readUInt32LE(at + HOLDER_RECORD.fd),
      ...(hasStamps ? { stamp: stampAt(area, at) } : {}),
    });
  }
  return holders;
}

function stampAt(area: Buffer, at: number): string {
  return area.toString('latin1', at + HOLDER_RECORD.pid, at + HOLDER_RECORD.end);
}
