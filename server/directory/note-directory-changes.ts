import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { lockNames } from '../datastore/advisory-lock.ts';
import type { Database, Transaction } from '../datastore/datastore.ts';
import { readPlaces } from '../services/node-places.ts';
import { directoryKey, readDirectoryOfNodes } from './directory.ts';

/**
 * Runs `work`, which changes entries, addresses or the standing of the given nodes, and notes every directory record that appeared, went or
 * changed by it, and every place whose addresses did. The nodes are locked against each other's changes: otherwise a new listener and a new address that meet in two transactions
 * would be noted by neither. A record cannot depend on another node, because an address is confirmed for one node alone.
 */
export async function noteDirectoryChanges<T>(
  transaction: Transaction,
  nodeIds: readonly SpiffeId[],
  work: () => Promise<T>,
): Promise<T> {
  const { db } = transaction;
  await lockNames(db, nodeIds);
  const before = await recordsOf(db, nodeIds);
  const placesBefore = await placesOf(db, nodeIds);
  const result = await work();
  const after = await recordsOf(db, nodeIds);
  for (const key of differing(before, after)) transaction.changed({ kind: 'directory', key });
  for (const [key, addresses] of await placesOf(db, nodeIds))
    if (placesBefore.get(key) !== addresses) transaction.changed({ kind: 'place', key });
  return result;
}

async function recordsOf(db: Database, nodeIds: readonly SpiffeId[]): Promise<Map<string, DirectoryRecord>> {
  const { records } = await readDirectoryOfNodes(db, nodeIds);
  return new Map(records.map((record) => [directoryKey(record), record]));
}

/** The addresses of each that has a place. */
async function placesOf(db: Database, nodeIds: readonly SpiffeId[]): Promise<Map<string, string>> {
  const places = await readPlaces(db, nodeIds);
  return new Map(places.map(({ nodeId, addresses }) => [nodeId, addresses.join(' ')]));
}

function* differing(
  before: ReadonlyMap<string, DirectoryRecord>,
  after: ReadonlyMap<string, DirectoryRecord>,
): Generator<string> {
  for (const [key, record] of before) if (after.get(key)?.protocol !== record.protocol) yield key;
  for (const key of after.keys()) if (!before.has(key)) yield key;
}
