import { and, eq, inArray, sql } from 'drizzle-orm';
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

/** To be called where a node's confirmed addresses change: they are a part of what agents know of its quarantine, if it is in one. */
export async function noteQuarantinedNode({ db, changed }: Transaction, nodeId: SpiffeId): Promise<void> {
  const rows = await db
    .select({ kind: quarantines.kind })
    .from(quarantines)
    .where(and(eq(quarantines.kind, 'node'), eq(quarantines.subject, nodeId)));
  if (rows.length > 0) changed({ kind: 'quarantine', key: quarantineKey({ kind: 'node', subject: nodeId }) });
}

/**
 * By what others know a quarantined node: one identity can live on several hosts, and the others of them go on. Every certificate that was issued to the node is
 * among them: from here on `AgentCertificates` gives it none for workloads.
 */
async function belongings(
  db: Database,
  { kind, subject }: { readonly kind: string; readonly subject: string },
): Promise<Pick<QuarantineRecord, 'addresses' | 'serials'>> {
  if (kind !== 'node') return { addresses: [], serials: [] };
  const addresses = await db
    .select({ address: nodeAddresses.address })
    .from(nodeAddresses)
    .where(and(eq(nodeAddresses.nodeId, subject), eq(nodeAddresses.state, 'confirmed')));
  const issued = await db
    .select({ serial: issuedSvids.serial })
    .from(issuedSvids)
    .where(eq(issuedSvids.nodeId, subject));
  return { addresses: addresses.map((row) => row.address), serials: issued.map((row) => row.serial) };
}
