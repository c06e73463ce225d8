import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { lockNames } from '../datastore/advisory-lock.ts';
import type { Database, Transaction } from '../datastore/datastore.ts';
import { directoryKey, readDirectoryOfNodes } from './directory.ts';

/**
 * Runs `work`, which changes entries, addresses or the standing of the given nodes, and notes every directory record that appeared, went or
 * changed by it. The nodes are locked against each other's changes: otherwise a new listener and a new address that meet in two transactions
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
  const result = await work();
  const after = await recordsOf(db, nodeIds);
  for (const key of differing(before, after)) transaction.changed({ kind: 'directory', key });
  return result;
}

async function recordsOf(db: Database, nodeIds: readonly SpiffeId[]): Promise<Map<string, DirectoryRecord>> {
  const { records } = await readDirectoryOfNodes(db, nodeIds);
  return new Map(records.map((record) => [directoryKey(record), record]));
}

function* differing(
  before: ReadonlyMap<string, DirectoryRecord>,
  after: ReadonlyMap<string, DirectoryRecord>,
): Generator<string> {
  for (const [key, record] of before) if (after.get(key)?.protocol !== record.protocol) yield key;
  for (const key of after.keys()) if (!before.has(key)) yield key;
}
