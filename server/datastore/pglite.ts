import type { PGlite } from '@electric-sql/pglite';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { drizzle } from 'drizzle-orm/pglite';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { findDiskSpace } from '../../shared/runtime/process-limits.ts';
import type { Datastore } from './datastore.ts';
import { lockDirectory, type DirectoryLock } from './directory-lock.ts';
import { DrizzleDatastore, newEpoch } from './drizzle-datastore.ts';
import { claimCluster, migrate } from './migrate.ts';
import { startPglite } from './pglite-engine.ts';
import * as schema from './schema.ts';

/**
 * PGlite that finds no room for its next log segment of 16 MiB stops for good, and takes the process with it. It is not let come so far: nothing is written while
 * less than this is free on its disk.
 */
const KEPT_FREE_BYTES = 32 * 1024 * 1024;

/**
 * Opens the embedded database: PostgreSQL in WebAssembly, for one server and for trying out. Committed transactions survive the process, but it
 * does not fsync, so a power cut may take the newest. While its disk has less than 32 MiB left, writing fails with `unavailable`, reason `database_full`. The directory is this process's alone: throws `failed_precondition`, reason
 * `data_directory_locked`, and what `migrate` and `claimCluster` throw.
 */
export async function openPglite(options: {
  /** Where the database lives; absent: in memory, for tests. */
  readonly dataDirectory?: string;
  readonly trustDomain: TrustDomain;
  /** A prepared database for a new one to start from. */
  readonly template?: Blob;
}): Promise<Datastore> {
  const lock = options.dataDirectory === undefined ? undefined : takeDirectory(options.dataDirectory);
  try {
    const pglite = await start(options);
    const db = drizzle(pglite, { schema });
    const listeners = new Set<() => void>();
    try {
      await migrate(db);
      await claimCluster(db, { trustDomain: options.trustDomain, epoch: newEpoch() });
    } catch (error) {
      await pglite.close();
      throw error;
    }
    return new DrizzleDatastore({
      db,
      requireRoom: () => requireRoom(options.dataDirectory),
      // Nobody else writes: NOTIFY has nothing to add to what this process knows.
      committed: () => queueMicrotask(() => wake(listeners)),
      onChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      async close() {
        listeners.clear();
        if (!pglite.closed) await pglite.close();
        lock?.release();
      },
    });
  } catch (error) {
    lock?.release();
    throw error;
  }
}

function requireRoom(directory: string | undefined): void {
  if (directory === undefined) return;
  const space = findDiskSpace(directory);
  if (space === undefined || space.freeBytes >= KEPT_FREE_BYTES) return;
  const message = `The disk of the embedded database has less than ${KEPT_FREE_BYTES / 1024 / 1024} MiB left`;
  throw new PicketError('unavailable', 'database_full', message);
}

function wake(listeners: ReadonlySet<() => void>): void {
  for (const listener of Array.from(listeners)) listener();
}

function takeDirectory(directory: string): DirectoryLock {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return lockDirectory(directory);
}

/**
 * The database has a folder of its own below the data directory. While it is made a file stands beside it, so that a first start that was cut
 * short is begun again.
 */
async function start(options: {
  readonly dataDirectory?: string;
  readonly template?: Blob;
}): Promise<PGlite> {
  const template = options.template === undefined ? {} : { template: options.template };
  if (options.dataDirectory === undefined) return await startPglite(template);
  const directory = join(options.dataDirectory, 'pglite');
  const unfinished = `${directory}.unfinished`;
  if (existsSync(directory) && !existsSync(unfinished))
    return await startPglite({ dataDirectory: directory });
  rmSync(directory, { recursive: true, force: true });
  writeFileSync(unfinished, '');
  const pglite = await startPglite({ dataDirectory: directory, ...template });
  rmSync(unfinished);
  return pglite;
}
