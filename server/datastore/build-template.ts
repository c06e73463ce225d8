import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { drizzle } from 'drizzle-orm/pglite';
import { migrate } from './migrate.ts';
import { schemaDigest } from './migrations.ts';
import { startPglite } from './pglite-engine.ts';
import * as schema from './schema.ts';

/** Where the build puts the template and where the binary takes it from. */
export const TEMPLATE_FILE = join(import.meta.dirname, '..', '..', 'dist', 'pglite-template.tar.gz');

/**
 * Makes the prepared database, migrated and without a cluster, that PGlite starts from. Does nothing when `outFile` was made from the
 * same migrations; `outFile` with `.digest` behind it says from which.
 */
export async function buildPgliteTemplate(outFile: string = TEMPLATE_FILE): Promise<void> {
  const digest = schemaDigest();
  const digestFile = `${outFile}.digest`;
  if (existsSync(outFile) && existsSync(digestFile) && readFileSync(digestFile, 'utf8') === digest) return;
  mkdirSync(dirname(outFile), { recursive: true });
  const pglite = await startPglite({});
  try {
    await migrate(drizzle(pglite, { schema }));
    const dump = await pglite.dumpDataDir('gzip');
    // Whole or not at all: two builds at once must not mix.
    const part = `${outFile}.${process.pid}`;
    writeFileSync(part, new Uint8Array(await dump.arrayBuffer()));
    renameSync(part, outFile);
    writeFileSync(digestFile, digest);
  } finally {
    await pglite.close();
  }
}
