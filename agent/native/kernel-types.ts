import { readFileSync } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';

const TYPES_FILE = '/sys/kernel/btf/vmlinux';

/** The kernel's description of its own types, for `queryBtf`. Throws `unavailable`, reason `btf`. */
export function readKernelTypes(): Buffer {
  try {
    return readFileSync(TYPES_FILE);
  } catch (cause) {
    throw new PicketError('unavailable', 'btf', `Cannot read ${TYPES_FILE}`, { cause });
  }
}
