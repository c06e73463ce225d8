import { buildPgliteTemplate, TEMPLATE_FILE } from '../../server/datastore/build-template.ts';
import type { Datastore } from '../../server/datastore/datastore.ts';
import { openPglite } from '../../server/datastore/pglite.ts';
import { openPostgres } from '../../server/datastore/postgres.ts';
import { createLog, type Log } from '../../shared/runtime/log.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { createTestDatabase } from './postgres.ts';

/** The trust domain of every database here. */
export const TEST_TRUST_DOMAIN = parseTrustDomain('example.org');

/** A log that keeps nothing. */
export const silentLog: Log = createLog({ level: 'error', nowMs: () => 0, write: () => {} });

/** A datastore that closes and removes what stands behind it. */
export interface TestDatastore {
  readonly datastore: Datastore;
  readonly dispose: () => Promise<void>;
}

/** The prepared database, built by the first who asks and kept in `dist`. */
export async function pgliteTemplate(): Promise<Blob> {
  await buildPgliteTemplate(TEMPLATE_FILE);
  return Bun.file(TEMPLATE_FILE);
}

/** PGlite in memory: the cheap one, where a test is not about the database. */
export async function openTestPglite(): Promise<TestDatastore> {
  const datastore = await openPglite({ trustDomain: TEST_TRUST_DOMAIN, template: await pgliteTemplate() });
  return { datastore, dispose: () => datastore.close() };
}

/** A PostgreSQL database of its own. */
export async function openTestPostgres(): Promise<TestDatastore> {
  const database = await createTestDatabase();
  const datastore = await openPostgres({
    url: database.url,
    trustDomain: TEST_TRUST_DOMAIN,
    log: silentLog,
  });
  return {
    datastore,
    async dispose() {
      await datastore.close();
      await database.drop();
    },
  };
}

/** Both adapters, for suites that run on each: `describe.each(DATASTORES)('... (%s)', (_name, open) => …)`. */
export const DATASTORES = [
  ['PGlite', openTestPglite],
  ['PostgreSQL', openTestPostgres],
] as const;
