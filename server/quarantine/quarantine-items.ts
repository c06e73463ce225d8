import { and, eq, inArray, isNotNull, sql, type SQL } from 'drizzle-orm';
import type { QuarantineRecord } from '../../shared/protocol/quarantine.ts';
import type { SyncItem } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database, Transaction } from '../datastore/datastore.ts';
import { issuedSvids, nodeAddresses, quarantines } from '../datastore/schema.ts';

type QuarantineItem = Extract<SyncItem, { kind: 'quarantine' }>;

/** The key in synchronisation: `<kind> <subject>`. */
export function quarantineKey({ kind, subject }: Pick<QuarantineRecord, 'kind' | 'subject'>): string {
  return `${kind} ${subject}`;
}

/** What agents are told of the quarantines in force: of all, or of those with these keys. */
export async function readQuarantineItems(
  db: Database,
  keys?: readonly string[],
): Promise<readonly QuarantineItem[]> {
  if (keys?.length === 0) return [];
  const key = sql`${quarantines.kind} || ' ' || ${quarantines.subject}`;
  const rows = await db
    .select()
    .from(quarantines)
    .where(keys === undefined ? undefined : inArray(key, [...keys]));
  const items: QuarantineItem[] = [];
  for (const { kind, subject, reason } of rows) {
    const value = {
      kind,
      subject: subject as SpiffeId,
      reason,
      ...(await belongings(db, { kind, subject })),
    };
    items.push({ kind: 'quarantine', key: quarantineKey(value), value });
  }
  return items;
}

/**
 * Runs `work`, which may change a node's confirmed addresses. They are a part of what agents know of its quarantine, if it is in one; that is noted only when they did
 * change, since every agent then judges everything again.
 */
export async function noteQuarantinedNode<T>(
  { db, changed }: Transaction,
  nodeId: SpiffeId,
  work: () => Promise<T>,
): Promise<T> {
  const before = await confirmedAddresses(db, nodeId);
  const result = await work();
  const after = await confirmedAddresses(db, nodeId);
  if (new Set(before).symmetricDifference(new Set(after)).size === 0) return result;
  const key = { kind: 'node', subject: nodeId } as const;
  if ((await db.$count(quarantines, isThat(key))) > 0)
    changed({ kind: 'quarantine', key: quarantineKey(key) });
  return result;
}

/**
 * By what others know a quarantined node: one identity can live on several hosts, and the others of them go on. Every certificate that was issued to the node is
 * among them that it was issued for a workload and that is not forgotten, as those are which have ended: from here on `AgentCertificates` gives it none. Its own
 * certificates call nobody in the mesh, and every attestation brings one.
 */
async function belongings(
  db: Database,
  { kind, subject }: { readonly kind: string; readonly subject: string },
): Promise<Pick<QuarantineRecord, 'addresses' | 'serials'>> {
  if (kind !== 'node') return { addresses: [], serials: [] };
  const addresses = await confirmedAddresses(db, subject);
  const issued = await db
    .select({ serial: issuedSvids.serial })
    .from(issuedSvids)
    .where(and(eq(issuedSvids.nodeId, subject), isNotNull(issuedSvids.entryId)));
  return { addresses, serials: issued.map((row) => row.serial) };
}

async function confirmedAddresses(db: Database, nodeId: string): Promise<string[]> {
  const rows = await db
    .select({ address: nodeAddresses.address })
    .from(nodeAddresses)
    .where(and(eq(nodeAddresses.nodeId, nodeId), eq(nodeAddresses.state, 'confirmed')));
  return rows.map((row) => row.address);
}

function isThat({ kind, subject }: Pick<QuarantineRecord, 'kind' | 'subject'>): SQL | undefined {
  return and(eq(quarantines.kind, kind), eq(quarantines.subject, subject));
}
