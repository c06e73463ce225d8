import { closeSync, constants, openSync } from 'node:fs';
import { libc } from './libc.ts';

/** flock(2). */
const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Locks a file for this process, making it where there is none: the kernel gives the lock back when the process ends, however it ends. What it returns unlocks it; undefined when another
 * process has the lock. Throws what the file system says.
 */
export function tryLockFile(path: string): (() => void) | undefined {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  if (libc().flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    closeSync(fd);
    return undefined;
  }
  let isLocked = true;
  return () => {
    if (isLocked) closeSync(fd);
    isLocked = false;
  };
}
