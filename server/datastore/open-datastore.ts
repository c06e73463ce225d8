import { PicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { Datastore } from './datastore.ts';
import { openPglite } from './pglite.ts';
import { findPgliteTemplate } from './pglite-template.ts';
import { openPostgres } from './postgres.ts';

/**
 * Opens the database that the configuration names: PostgreSQL by `url`, otherwise PGlite in `dataDirectory`. Throws `invalid_argument`, reason
 * `database_missing`, when neither is given, and what the adapters throw.
 */
export async function openDatastore(options: {
  readonly url?: string;
  readonly dataDirectory?: string;
  readonly trustDomain: TrustDomain;
  readonly log: Log;
}): Promise<Datastore> {
  const { url, dataDirectory, trustDomain, log } = options;
  if (url !== undefined) return await openPostgres({ url, trustDomain, log });
  if (dataDirectory === undefined)
    throw new PicketError(
      'invalid_argument',
      'database_missing',
      'Neither a database URL nor a data directory is configured',
    );
  const template = await findPgliteTemplate();
  return await openPglite({ dataDirectory, trustDomain, ...(template === undefined ? {} : { template }) });
}
