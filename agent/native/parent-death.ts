import { PicketError } from '../../shared/errors/errors.ts';
import { errno, errnoName, libc } from './libc.ts';

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/**
 * The kernel kills this process when the one that started it ends, however it ends. Throws `unavailable`, reason `parent_death`, where the kernel refuses, and
 * `failed_precondition`, reason `parent_gone`, when `parentPid` has ended already.
 */
export function dieWithParent(parentPid: number): void {
  if (libc().prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) !== 0) {
    const why = errnoName(errno());
    throw new PicketError('unavailable', 'parent_death', `Cannot tie this process to its parent: ${why}`);
  }
  // It may have ended before it was asked for.
  if (process.ppid !== parentPid)
    throw new PicketError('failed_precondition', 'parent_gone', `The process ${parentPid} is not my parent`);
}
