import { randomBytes } from 'node:crypto';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../../shared/runtime/log.ts';

/** Four blocks of most file systems: the head of a segment, and its name in the directory. */
const RESERVE_BYTES = 16 * 1024;

/**
 * Room on the disk for the head of one more segment. On a full disk the segment that is written, all delivered, can only be removed once a new one
 * stands behind it, for the numbers and the chain go on there: without this room a spool on a full disk would never take a record again.
 */
export class SpoolReserve {
  readonly #path: string;
  readonly #log: Log;
  #isKept: boolean;

  constructor(directory: string, log: Log) {
    this.#path = join(directory, 'reserve');
    this.#log = log;
    this.#isKept = statSync(this.#path, { throwIfNoEntry: false })?.size === RESERVE_BYTES;
  }

  /** Takes the room unless it is taken; a disk that has none left is a warning. */
  keep(): void {
    if (this.#isKept) return;
    try {
      // Nothing that a file system would store as a hole.
      writeFileSync(this.#path, randomBytes(RESERVE_BYTES), { mode: 0o600 });
      this.#isKept = true;
    } catch (error) {
      rmSync(this.#path, { force: true });
      this.#log.warn('audit_reserve_not_kept', { error });
    }
  }

  /** Gives the room back to the disk. Returns whether there was any. */
  release(): boolean {
    if (!this.#isKept) return false;
    this.#isKept = false;
    rmSync(this.#path, { force: true });
    return true;
  }
}
