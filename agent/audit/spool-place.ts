import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { tryLockFile } from '../native/file-lock.ts';
import { Spool } from './spool.ts';

export interface SpoolPlaceOptions {
  /** Where the agent that serves keeps its records; those of agents that are being replaced stand beside it. */
  readonly directory: string;
  readonly maxBytes: number;
  readonly durability: 'group' | 'sync';
  readonly clock: Clock;
  readonly log: Log;
}

/** An open spool, which no other process has open. */
export interface HeldSpool {
  readonly spool: Spool;
  /** Puts everything on disk and lets go of the place; with `isEmpty`, removes it: the server has all of it. */
  close(options?: { readonly isEmpty?: boolean }): Promise<void>;
}

const LOCK = 'lock';

/** Opens the spool of a folder. Throws `failed_precondition`, reason `spool_in_use`, when another process has it, and as `Spool`. */
export function openSpoolPlace(directory: string, options: Omit<SpoolPlaceOptions, 'directory'>): HeldSpool {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const unlock = tryLockFile(join(directory, LOCK));
  if (unlock === undefined)
    throw new PicketError(
      'failed_precondition',
      'spool_in_use',
      `Cannot use ${directory}: another agent writes its records there`,
    );
  try {
    const spool = new Spool({ ...options, directory });
    return {
      spool,
      close: async ({ isEmpty = false } = {}) => {
        await spool.close();
        if (isEmpty) rmSync(directory, { recursive: true, force: true });
        unlock();
      },
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

/** Where an agent that is being replaced writes: of each a folder. */
export function asideFolder(directory: string): string {
  return `${directory}-replaced`;
}

/** The folders of agents that were replaced, of which some may still write. */
export function listAsideSpools(directory: string): readonly string[] {
  try {
    return readdirSync(asideFolder(directory)).map((name) => join(asideFolder(directory), name));
  } catch {
    return [];
  }
}
