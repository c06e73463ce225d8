import { asc, eq } from 'drizzle-orm';
import type { WireBundle } from '../../shared/protocol/attestation.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { toWireBundle } from '../../shared/spiffe/wire-bundle.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { trustBundles } from '../datastore/schema.ts';

/**
 * Keeps a trust bundle and lets every agent know, if it differs from what is kept; what is kept comes back. Its sequence is at least
 * the bundle's own and grows with each change, even if the source began to count anew.
 */
export async function storeTrustBundle(datastore: Datastore, bundle: TrustBundle): Promise<WireBundle> {
  return await datastore.write(async ({ db, changed }) => {
    const rows = await db
      .select()
      .from(trustBundles)
      .where(eq(trustBundles.trustDomain, bundle.trustDomain))
      .for('update');
    const known = rows[0] === undefined ? undefined : wireBundleOf(rows[0]);
    const wire = toWireBundle(bundle);
    if (known !== undefined && hasSameContent(known, wire)) return known;
    const row = {
      ...wire,
      sequence: Math.max(wire.sequence, (known?.sequence ?? -1) + 1),
      updatedAt: new Date(),
    };
    await db
      .insert(trustBundles)
      .values(row)
      .onConflictDoUpdate({ target: trustBundles.trustDomain, set: row });
    changed({ kind: 'bundle', key: bundle.trustDomain });
    return { ...wire, sequence: row.sequence };
  });
}

/** Every bundle that is kept. */
export async function readTrustBundles(db: Database): Promise<readonly WireBundle[]> {
  const rows = await db.select().from(trustBundles).orderBy(asc(trustBundles.trustDomain));
  return rows.map(wireBundleOf);
}

function wireBundleOf(row: typeof trustBundles.$inferSelect): WireBundle {
  const { trustDomain, sequence, refreshHintSeconds, x509Authorities } = row;
  return { trustDomain, sequence, refreshHintSeconds, x509Authorities: [...x509Authorities] };
}

function hasSameContent(a: WireBundle, b: WireBundle): boolean {
  return (
    a.refreshHintSeconds === b.refreshHintSeconds &&
    JSON.stringify(a.x509Authorities) === JSON.stringify(b.x509Authorities)
  );
}
