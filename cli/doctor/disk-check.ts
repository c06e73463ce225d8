import type { DiskSpace } from '../../shared/runtime/process-limits.ts';
import { formatBytes } from '../output.ts';
import { checkerOf, when, type Check } from './check.ts';

const MIB = 1024 * 1024;
/** Below this nothing can be written soon. */
const FULL_BYTES = 32 * MIB;
const NEARLY_FULL = 0.05;

/** The disk that holds what the role keeps. */
export function checkDisk(area: 'agent' | 'server', path: string, disk: DiskSpace | undefined): Check {
  const check = checkerOf(area);
  if (disk === undefined)
    return check('disk', '', [
      'warn',
      `${path}: cannot tell how much room there is`,
      'does the folder exist?',
    ]);
  const found = `${path}: ${formatBytes(disk.freeBytes)} of ${formatBytes(disk.totalBytes)} free`;
  const advice = 'make room on that disk, or move data_dir';
  return check(
    'disk',
    found,
    when(disk.freeBytes < FULL_BYTES, 'fail', found, advice),
    when(disk.freeBytes < disk.totalBytes * NEARLY_FULL, 'warn', found, advice),
  );
}
