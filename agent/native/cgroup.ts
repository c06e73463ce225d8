import { constants, openSync, statfsSync, statSync } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';

/** CGROUP2_SUPER_MAGIC of linux/magic.h. */
const CGROUP2_MAGIC = 0x63677270;
const O_FOLDER = constants.O_RDONLY | constants.O_DIRECTORY;

/** Opens the folder of a cgroup of version 2. Throws `failed_precondition`, reason `cgroup_missing`, where it is none. */
export function openCgroup(path: string): number {
  try {
    if (statfsSync(path).type === CGROUP2_MAGIC) return openSync(path, O_FOLDER);
  } catch (cause) {
    throw missing(path, cause);
  }
  throw missing(path);
}

/** The kernel's number of a cgroup, which no later one has: the inode of its folder. Undefined where there is none. */
export function findCgroupId(path: string): bigint | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}

/** Where the tree of cgroups of version 2 is mounted, by the text of /proc/self/mountinfo (proc(5)); undefined where it is not. */
export function findCgroupMount(mountinfo: string): string | undefined {
  for (const line of mountinfo.split('\n')) {
    const [head = '', tail = ''] = line.split(' - ');
    const [, , , root, mountPoint] = head.split(' ');
    // Whose root is another one is a part of the tree, mounted elsewhere.
    if (tail.startsWith('cgroup2 ') && root === '/' && mountPoint?.startsWith('/') === true)
      return unescape(mountPoint);
  }
  return undefined;
}

/** Spaces and the like stand in octal. */
function unescape(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCodePoint(Number.parseInt(digits, 8)),
  );
}

function missing(path: string, cause?: unknown): PicketError {
  const message = `Cannot attach programs to ${path}: it is no cgroup of version 2. Mount it (mount -t cgroup2 cgroup2 PATH) and name it in capture.cgroup`;
  return new PicketError('failed_precondition', 'cgroup_missing', message, { cause });
}
