import { desc, eq, inArray } from 'drizzle-orm';
import type { SyncItem } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database } from '../datastore/datastore.ts';
import { policyActivations, registrationEntries } from '../datastore/schema.ts';
import {
  addressOfDirectoryKey,
  directoryKey,
  readDirectory,
  readDirectoryAt,
} from '../directory/directory.ts';
import { readEnforcementItems } from '../enforcement/enforcement.ts';
import { readQuarantineItems } from '../quarantine/quarantine-items.ts';
import { entryOf } from '../registration/entry-row.ts';
import { readPlaceItems } from '../services/node-places.ts';
import { readServiceItems } from '../services/services.ts';
import { readTrustBundles } from './trust-bundles.ts';

/** The key of the mesh's policy. The policy of administration never leaves the server. */
export const MESH_POLICY_KEY = 'mesh';

/** What every agent gets: bundles, the directory of the trust domain, the policy in force, the quarantines, the modes of enforcement, services and places. Conflicts of the directory are counted, not sent. */
export async function readSharedItems(
  db: Database,
): Promise<{ readonly items: readonly SyncItem[]; readonly directoryConflicts: number }> {
  const bundles = await readBundleItems(db);
  const { records, conflicts } = await readDirectory(db);
  const directory = records.map((value) => ({ kind: 'directory' as const, key: directoryKey(value), value }));
  const policy = await readPolicyItems(db);
  const quarantines = await readQuarantineItems(db);
  const modes = await readEnforcementItems(db);
  const services = await readServiceItems(db);
  const places = await readPlaceItems(db);
  return {
    items: [...bundles, ...directory, ...policy, ...quarantines, ...modes, ...services, ...places],
    directoryConflicts: conflicts.length,
  };
}

/** What one agent alone gets: the entries that it is the parent of. */
export async function readEntryItems(db: Database, agentId: SpiffeId): Promise<readonly SyncItem[]> {
  const rows = await db.select().from(registrationEntries).where(eq(registrationEntries.parentId, agentId));
  return rows.map((row) => ({ kind: 'entry', key: row.entryId, value: entryOf(row) }));
}

/** The objects of these keys as they are now, by kind and key; what is absent is gone. */
export async function readItemsOf(
  db: Database,
  changes: readonly { readonly kind: string; readonly key: string }[],
): Promise<ReadonlyMap<string, SyncItem>> {
  const keysOf = (kind: string): string[] => [
    ...new Set(changes.filter((change) => change.kind === kind).map((change) => change.key)),
  ];
  const items = [
    ...(await readEntriesById(db, keysOf('entry'))),
    ...(await readDirectoryItems(db, keysOf('directory'))),
    ...(keysOf('bundle').length === 0 ? [] : await readBundleItems(db)),
    ...(keysOf('policy').length === 0 ? [] : await readPolicyItems(db)),
    ...(await readQuarantineItems(db, keysOf('quarantine'))),
    ...(await readEnforcementItems(db, keysOf('enforcement'))),
    ...(await readServiceItems(db, keysOf('service'))),
    ...(await readPlaceItems(db, keysOf('place'))),
  ];
  return new Map(items.map((item) => [itemName(item), item]));
}

/** One name for kind and key. */
export function itemName(item: { readonly kind: string; readonly key: string }): string {
  return `${item.kind} ${item.key}`;
}

async function readEntriesById(db: Database, ids: readonly string[]): Promise<readonly SyncItem[]> {
  if (ids.length === 0) return [];
  const rows = await db
    .select()
    .from(registrationEntries)
    .where(inArray(registrationEntries.entryId, [...ids]));
  return rows.map((row) => ({ kind: 'entry', key: row.entryId, value: entryOf(row) }));
}

async function readDirectoryItems(db: Database, keys: readonly string[]): Promise<readonly SyncItem[]> {
  const addresses = [...new Set(keys.map(addressOfDirectoryKey))];
  const { records } = await readDirectoryAt(db, addresses);
  return records.map((value) => ({ kind: 'directory', key: directoryKey(value), value }));
}

async function readBundleItems(db: Database): Promise<readonly SyncItem[]> {
  const bundles = await readTrustBundles(db);
  return bundles.map((value) => ({ kind: 'bundle', key: value.trustDomain, value }));
}

async function readPolicyItems(db: Database): Promise<readonly SyncItem[]> {
  const rows = await db
    .select({ signed: policyActivations.signed })
    .from(policyActivations)
    .where(eq(policyActivations.target, 'mesh'))
    .orderBy(desc(policyActivations.sequence))
    .limit(1);
  return rows.map((row) => ({ kind: 'policy', key: MESH_POLICY_KEY, value: row.signed }));
}
