import { PicketError } from '../../shared/errors/errors.ts';

const CODES: readonly unknown[] = ['ENOSPC', 'EDQUOT'];

/** A file could not be written whole because its disk, or its owner's share of it, is full: `resource_exhausted`, reason `spool_disk_full`. */
export function diskFull(path: string): PicketError {
  return new PicketError('resource_exhausted', 'spool_disk_full', `Cannot write ${path}: the disk is full`);
}

/** Whether a failure says that the disk, or its owner's share of it, is full. */
export function isDiskFull(error: unknown): boolean {
  if (error instanceof PicketError) return error.reason === 'spool_disk_full';
  return error instanceof Error && 'code' in error && CODES.includes(error.code);
}
