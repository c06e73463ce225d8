import { drizzle } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { CHANGE_CHANNEL } from './change-log.ts';
import { toDatabaseError } from './database-error.ts';
import type { Datastore } from './datastore.ts';
import { DrizzleDatastore, newEpoch } from './drizzle-datastore.ts';
import { claimCluster, migrate } from './migrate.ts';
import * as schema from './schema.ts';

/** Connections for queries; LISTEN has one more. */
const POOL_SIZE = 10;
const CONNECT_TIMEOUT_SECONDS = 10;
/** A statement that runs longer is ended by the database; so is a transaction that does nothing for that long. */
const STATEMENT_TIMEOUT_MS = 30_000;

/**
 * Opens a PostgreSQL database, migrates it and listens for changes. Throws `unavailable`/`database_unavailable`, and what `migrate` and
 * `claimCluster` throw.
 */
export async function openPostgres(options: {
  /** `postgres://user:password@host:port/database` */
  readonly url: string;
  readonly trustDomain: TrustDomain;
  readonly log: Log;
}): Promise<Datastore> {
  requireUrl(options.url);
  const client = postgres(options.url, { ...CONNECTION, max: POOL_SIZE });
  // drizzle takes over the JSON and date codecs of its client, and a lost LISTEN must not touch the pool: a client of its own.
  const listening = postgres(options.url, { ...CONNECTION, max: 1 });
  const close = async (): Promise<void> => {
    await Promise.all([client.end({ timeout: 5 }), listening.end({ timeout: 5 })]);
  };
  try {
    const db = drizzle(client, { schema });
    await migrate(db);
    await claimCluster(db, { trustDomain: options.trustDomain, epoch: newEpoch() });
    const listeners = await listenForChanges(listening, options.log);
    return new DrizzleDatastore({
      db,
      onChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      close,
    });
  } catch (error) {
    await close();
    throw toDatabaseError(error);
  }
}

/** How long a connection waits before it tries again, in seconds. The driver's own rule goes up to twenty, for which a database that is back would seem away. */
const backOff = (failures: number): number => Math.min(1, 0.05 * 2 ** failures);

const CONNECTION = {
  connect_timeout: CONNECT_TIMEOUT_SECONDS,
  backoff: backOff,
  // "table already exists" and the like.
  onnotice: () => {},
  connection: {
    application_name: 'picket',
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: STATEMENT_TIMEOUT_MS,
  },
} as const;

/**
 * Listens until the client ends; postgres.js connects again by itself and then reports `onlisten` once more. Whatever was notified in between is
 * lost, so each new connection counts as a change.
 */
async function listenForChanges(client: postgres.Sql, log: Log): Promise<Set<() => void>> {
  const listeners = new Set<() => void>();
  const wake = (): void => {
    for (const listener of Array.from(listeners)) listener();
  };
  let isFirst = true;
  await client.listen(CHANGE_CHANNEL, wake, () => {
    if (!isFirst) log.warn('database_listen_resumed');
    isFirst = false;
    wake();
  });
  return listeners;
}

function requireUrl(url: string): void {
  const scheme = URL.parse(url)?.protocol;
  if (scheme === 'postgres:' || scheme === 'postgresql:') return;
  // The URL may hold a password: it is not repeated.
  throw new PicketError(
    'invalid_argument',
    'database_url_invalid',
    'Cannot open the database: expected a URL that begins with postgres://',
  );
}
