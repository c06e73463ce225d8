import { sql } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { Database } from './datastore.ts';
import { digestOf, MIGRATIONS, type Migration } from './migrations.ts';
import { rowsOf } from './rows.ts';

/** Any number will do, as long as nothing else in the database takes it. */
const MIGRATION_LOCK = 7_315_008;

/**
 * Brings the database to the newest schema, all or nothing, one server at a time. Throws `failed_precondition`: reason `schema_newer` when a
 * newer Picket has already migrated it, `schema_changed` when a migration was applied with another text.
 */
export async function migrate(db: Database, migrations: readonly Migration[] = MIGRATIONS): Promise<void> {
  await db.transaction(async (transaction) => {
    await transaction.execute(sql`select pg_advisory_xact_lock(${MIGRATION_LOCK})`);
    await transaction.execute(sql`
      create table if not exists schema_migrations (
        id text primary key, digest text not null, applied_at timestamptz not null default now())`);
    const applied = await appliedMigrations(transaction);
    requireKnown(applied, migrations);
    for (const migration of migrations)
      if (!applied.has(migration.id)) await applyMigration(transaction, migration);
  });
}

/**
 * Says whose database this is, the first time with `epoch` as its epoch. Throws `failed_precondition`, reason `trust_domain_mismatch`, when it
 * belongs to another trust domain.
 */
export async function claimCluster(
  db: Database,
  cluster: { readonly trustDomain: TrustDomain; readonly epoch: string },
): Promise<void> {
  await db.execute(sql`
    insert into cluster (id, trust_domain, epoch) values (1, ${cluster.trustDomain}, ${cluster.epoch}) on conflict (id) do nothing`);
  const rows = rowsOf<{ trust_domain: string }>(
    await db.execute(sql`select trust_domain from cluster where id = 1`),
  );
  const owner = rows[0]?.trust_domain;
  if (owner !== cluster.trustDomain)
    throw new PicketError(
      'failed_precondition',
      'trust_domain_mismatch',
      `The database belongs to trust domain "${owner}", not to "${cluster.trustDomain}"`,
    );
}

async function appliedMigrations(db: Database): Promise<ReadonlyMap<string, string>> {
  const rows = rowsOf<{ id: string; digest: string }>(
    await db.execute(sql`select id, digest from schema_migrations`),
  );
  return new Map(rows.map(({ id, digest }) => [id, digest]));
}

function requireKnown(applied: ReadonlyMap<string, string>, migrations: readonly Migration[]): void {
  const known = new Map(migrations.map((migration) => [migration.id, digestOf(migration)]));
  for (const [id, digest] of applied) {
    const expected = known.get(id);
    if (expected === undefined)
      throw new PicketError(
        'failed_precondition',
        'schema_newer',
        `The database was migrated by a newer version ("${id}")`,
      );
    if (expected !== digest)
      throw new PicketError(
        'failed_precondition',
        'schema_changed',
        `Migration "${id}" was applied to the database with another text`,
      );
  }
}

async function applyMigration(db: Database, migration: Migration): Promise<void> {
  for (const statement of migration.sql.split('--> statement-breakpoint'))
    if (statement.trim() !== '') await db.execute(sql.raw(statement));
  await db.execute(
    sql`insert into schema_migrations (id, digest) values (${migration.id}, ${digestOf(migration)})`,
  );
}
