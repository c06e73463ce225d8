import { readdirSync, readFileSync, statfsSync } from 'node:fs';

/** How many file descriptors a process has open, and how many it may have. */
export interface DescriptorUse {
  readonly open: number;
  readonly limit: number;
}

/** Room on the file system of a path. */
export interface DiskSpace {
  /** For whom the disk is not reserved. */
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Of this process. */
export function readDescriptorUse(): DescriptorUse {
  return { open: readdirSync('/proc/self/fd').length, limit: readDescriptorLimit() };
}

/** How many file descriptors this process may have open; Infinity where nothing limits it. */
export function readDescriptorLimit(): number {
  return parseDescriptorLimit(readFileSync('/proc/self/limits', 'utf8'));
}

/** The soft limit of open files in the text of /proc/PID/limits. */
export function parseDescriptorLimit(text: string): number {
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(text)?.[1];
  return soft === undefined || soft === 'unlimited' ? Infinity : Number(soft);
}

/** Undefined where nothing can be said: there is no such path. */
export function findDiskSpace(path: string): DiskSpace | undefined {
  try {
    const { bavail, blocks, bsize } = statfsSync(path);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  } catch {
    return undefined;
  }
}
