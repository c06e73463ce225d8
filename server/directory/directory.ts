import { and, eq, inArray, sql } from 'drizzle-orm';
import type { Listener } from '../../shared/protocol/registration.ts';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database } from '../datastore/datastore.ts';
import { nodeAddresses, nodes, registrationEntries } from '../datastore/schema.ts';

/** An entry's listeners at one confirmed address of the host that serves the entry. */
export interface Placement {
  readonly entryId: string;
  readonly spiffeId: SpiffeId;
  readonly listeners: readonly Listener[];
  readonly network: string;
  readonly address: string;
}

/** An address and port for which registration names two identities, or one identity with two protocols: nobody is told of either. */
export interface DirectoryConflict {
  readonly network: string;
  readonly address: string;
  readonly port: number;
  readonly spiffeIds: readonly SpiffeId[];
  readonly entryIds: readonly string[];
}

/** What may answer where. It comes from registration, never from observation. */
export interface DirectoryView {
  readonly records: readonly DirectoryRecord[];
  readonly conflicts: readonly DirectoryConflict[];
}

/** The key of a record in synchronisation: `network|address|port|SPIFFE ID`. None of the parts can hold a bar. */
export function directoryKey(record: DirectoryRecord): string {
  return [record.network, record.address, record.port, record.spiffeId].join('|');
}

/** The address in a key that `directoryKey` made. */
export function addressOfDirectoryKey(key: string): string {
  return key.split('|', 2)[1] ?? '';
}

/** The directory that placements make. Whatever is ambiguous is withheld: a caller must never guess whom it expects. */
export function deriveDirectory(placements: readonly Placement[]): DirectoryView {
  const sockets = new Map<string, Candidate[]>();
  for (const placement of placements)
    for (const listener of placement.listeners) {
      if (listener.address !== undefined && listener.address !== placement.address) continue;
      const candidate = candidateOf(placement, listener);
      const { network, address, port } = candidate.record;
      const socket = `${network}|${address}|${port}`;
      const rivals = sockets.get(socket);
      if (rivals === undefined) sockets.set(socket, [candidate]);
      else rivals.push(candidate);
    }
  const records: DirectoryRecord[] = [];
  const conflicts: DirectoryConflict[] = [];
  for (const all of sockets.values()) {
    const named = all.filter(({ isNamed }) => isNamed);
    // Who is registered for this very address goes before who is for all.
    const candidates = named.length > 0 ? named : all;
    const record = candidates[0]?.record;
    if (record === undefined) continue;
    if (candidates.every((candidate) => isSame(candidate.record, record))) records.push(record);
    else conflicts.push(conflictOf(record, candidates));
  }
  return { records, conflicts };
}

/** The whole directory of the trust domain. */
export async function readDirectory(db: Database): Promise<DirectoryView> {
  return deriveDirectory(await readPlacements(db));
}

/** The directory at some addresses, in whatever network. */
export async function readDirectoryAt(db: Database, addresses: readonly string[]): Promise<DirectoryView> {
  if (addresses.length === 0) return { records: [], conflicts: [] };
  return deriveDirectory(await readPlacements(db, { addresses }));
}

/** What the listeners of some hosts' entries contribute, before rivals on other hosts are looked at. */
export async function readDirectoryOfNodes(
  db: Database,
  nodeIds: readonly SpiffeId[],
): Promise<DirectoryView> {
  if (nodeIds.length === 0) return { records: [], conflicts: [] };
  return deriveDirectory(await readPlacements(db, { nodeIds }));
}

interface Candidate {
  readonly entryId: string;
  readonly record: DirectoryRecord;
  /** Whether the listener names the address. */
  readonly isNamed: boolean;
}

function candidateOf(placement: Placement, listener: Listener): Candidate {
  const { network, address, spiffeId } = placement;
  const { port, protocol } = listener;
  const record = { network, address, port, spiffeId, protocol };
  return { entryId: placement.entryId, record, isNamed: listener.address !== undefined };
}

function isSame(a: DirectoryRecord, b: DirectoryRecord): boolean {
  return a.spiffeId === b.spiffeId && a.protocol === b.protocol;
}

function conflictOf(record: DirectoryRecord, candidates: readonly Candidate[]): DirectoryConflict {
  return {
    network: record.network,
    address: record.address,
    port: record.port,
    spiffeIds: [...new Set(candidates.map((candidate) => candidate.record.spiffeId))],
    entryIds: candidates.map((candidate) => candidate.entryId),
  };
}

async function readPlacements(
  db: Database,
  only: { readonly addresses?: readonly string[]; readonly nodeIds?: readonly SpiffeId[] } = {},
): Promise<readonly Placement[]> {
  const rows = await db
    .select({
      entryId: registrationEntries.entryId,
      spiffeId: registrationEntries.spiffeId,
      listeners: registrationEntries.listeners,
      network: nodeAddresses.network,
      address: nodeAddresses.address,
    })
    .from(nodeAddresses)
    // A banned host answers for nobody.
    .innerJoin(nodes, and(eq(nodes.nodeId, nodeAddresses.nodeId), eq(nodes.isBanned, false)))
    .innerJoin(registrationEntries, eq(registrationEntries.parentId, nodeAddresses.nodeId))
    .where(
      and(
        eq(nodeAddresses.state, 'confirmed'),
        sql`${registrationEntries.listeners} <> '[]'::jsonb`,
        only.addresses === undefined ? undefined : inArray(nodeAddresses.address, [...only.addresses]),
        only.nodeIds === undefined ? undefined : inArray(nodeAddresses.nodeId, [...only.nodeIds]),
      ),
    );
  return rows as Placement[];
}
