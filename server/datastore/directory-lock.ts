import { Database } from 'bun:sqlite';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';

/** An exclusive hold on a directory. */
export interface DirectoryLock {
  /** Lets go of it. Once is enough; twice is harmless. */
  release(): void;
}

/**
 * Takes a directory for this process alone, until `release` or the end of the process, however it ends. Throws `failed_precondition`, reason
 * `data_directory_locked`, when somebody else has it, also within this process.
 *
 * The lock is the kernel's, by way of SQLite's exclusive transaction on an empty file: it cannot go stale as a file with a pid in it can, and it
 * needs no call into libc from here.
 */
export function lockDirectory(directory: string): DirectoryLock {
  const database = new Database(join(directory, 'picket.lock'), { create: true });
  try {
    database.run('pragma busy_timeout = 0');
    database.run('begin exclusive');
  } catch (cause) {
    database.close();
    throw new PicketError(
      'failed_precondition',
      'data_directory_locked',
      `Cannot open "${directory}": another process has it open`,
      { cause },
    );
  }
  return { release: () => database.close() };
}
