import { and, asc, eq, inArray, notInArray } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { isUniqueViolation } from '../datastore/database-error.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { nodeAddresses, nodes } from '../datastore/schema.ts';
import { noteDirectoryChanges } from '../directory/note-directory-changes.ts';
import { noteQuarantinedNode } from '../quarantine/quarantine-items.ts';
import { requireNodeNotHeld } from '../quarantine/require-not-held.ts';
import { findServiceAddresses, lockServiceAddresses } from '../services/service-addresses.ts';
import { isNodeAddress, parseNodeAddress, type NodeAddress } from './node-address.ts';

/** Addresses belong to a network; hosts that share no network may have the same ones. Most installations have this one only. */
const DEFAULT_NETWORK = 'default';

/** How an address was confirmed: an operator said so, or the server reached the node's own SVID there. */
export type AddressProof = 'operator' | 'reached';

/** An address that a node claims (`pending`, used by nobody) or has (`confirmed`, in the directory). */
export interface NodeAddressClaim {
  readonly nodeId: SpiffeId;
  readonly network: string;
  readonly address: NodeAddress;
  readonly state: 'pending' | 'confirmed';
  readonly proof: AddressProof | 'none';
}

/** Which address of which node is meant. */
export interface NodeAddressKey {
  readonly nodeId: SpiffeId;
  readonly address: string;
  /** `DEFAULT_NETWORK` when absent. */
  readonly network?: string;
}

/** Which addresses are whose: claimed by a node, or confirmed by an operator, for one node at a time. */
export class NodeAddresses {
  readonly #datastore: Datastore;

  constructor(datastore: Datastore) {
    this.#datastore = datastore;
  }

  /** The addresses of one node, or of all. */
  async list(nodeId?: SpiffeId): Promise<readonly NodeAddressClaim[]> {
    const rows = await this.#datastore.db
      .select()
      .from(nodeAddresses)
      .where(nodeId === undefined ? undefined : eq(nodeAddresses.nodeId, nodeId))
      .orderBy(asc(nodeAddresses.nodeId), asc(nodeAddresses.network), asc(nodeAddresses.address));
    return rows.map(claimOf);
  }

  /**
   * Makes an address the node's, claimed before or not. Throws `invalid_argument`: `address_invalid`, `network_invalid`; `not_found`, reason
   * `node_unknown`; `already_exists`: `address_taken` when it is confirmed for another node, `service_address_taken` when it leads to a service: withdraw it there first.
   */
  async confirm(key: NodeAddressKey, proof: AddressProof): Promise<NodeAddressClaim> {
    const claim = { ...keyOf(key), state: 'confirmed', proof } as const;
    try {
      return await this.#datastore.write((transaction) =>
        noteDirectoryChanges(transaction, [key.nodeId], async () => {
          await requireNode(transaction.db, key.nodeId);
          await requireNoService(transaction.db, claim.address);
          await noteQuarantinedNode(transaction, key.nodeId, async () => {
            await writeConfirmed(transaction.db, claim);
          });
          return claim;
        }),
      );
    } catch (error) {
      if (isUniqueViolation(error, 'node_addresses_confirmed')) throw addressTaken(claim.address, error);
      throw error;
    }
  }

  /**
   * Takes an address from a node, confirmed or only claimed. False if the node had none such. An agent that still has it claims it again. Throws
   * `failed_precondition`, reason `node_quarantined`, for a confirmed one.
   */
  async withdraw(key: NodeAddressKey): Promise<boolean> {
    return await this.#datastore.write((transaction) =>
      noteDirectoryChanges(transaction, [key.nodeId], async () => {
        const rows = await transaction.db
          .delete(nodeAddresses)
          .where(isAt(keyOf(key)))
          .returning({ state: nodeAddresses.state });
        if (rows.some(({ state }) => state === 'confirmed'))
          await requireNodeNotHeld(transaction.db, key.nodeId);
        return rows.length > 0;
      }),
    );
  }
}

/**
 * Writes what an agent claims: new addresses become pending, pending ones that it no longer claims go, confirmed ones stay. Addresses that no
 * host can have for itself (loopback, link-local) are passed over: an agent reports whatever its interfaces have.
 */
export async function writeClaims(
  db: Database,
  claims: { readonly nodeId: SpiffeId; readonly addresses: readonly string[] },
): Promise<void> {
  const { nodeId } = claims;
  const addresses = [...new Set(claims.addresses.filter(isNodeAddress).map(parseNodeAddress))];
  const isPending = and(eq(nodeAddresses.nodeId, nodeId), eq(nodeAddresses.state, 'pending'));
  if (addresses.length === 0) {
    await db.delete(nodeAddresses).where(isPending);
    return;
  }
  await db.delete(nodeAddresses).where(and(isPending, notInArray(nodeAddresses.address, addresses)));
  await db
    .insert(nodeAddresses)
    .values(
      addresses.map((address) => ({ nodeId, address, network: DEFAULT_NETWORK, state: 'pending' as const })),
    )
    .onConflictDoNothing();
}

/**
 * Confirms what an operator declared for a host before it attested. Addresses that are confirmed for another node or lead to a service are
 * returned and stay with it: the operator must withdraw them there.
 */
export async function writeDeclared(
  db: Database,
  declared: { readonly nodeId: SpiffeId; readonly addresses: readonly string[] },
): Promise<readonly NodeAddress[]> {
  const addresses = [...new Set(declared.addresses.map(parseNodeAddress))];
  if (addresses.length === 0) return [];
  await lockServiceAddresses(db);
  const holders = await db
    .select()
    .from(nodeAddresses)
    .where(
      and(
        inArray(nodeAddresses.address, addresses),
        eq(nodeAddresses.network, DEFAULT_NETWORK),
        eq(nodeAddresses.state, 'confirmed'),
      ),
    );
  const taken = new Set<string>((await findServiceAddresses(db, addresses)).keys());
  for (const { nodeId, address } of holders) if (nodeId !== declared.nodeId) taken.add(address);
  for (const address of addresses)
    if (!taken.has(address))
      await writeConfirmed(db, {
        nodeId: declared.nodeId,
        network: DEFAULT_NETWORK,
        address,
        proof: 'operator',
      });
  return addresses.filter((address) => taken.has(address));
}

async function writeConfirmed(
  db: Database,
  claim: Pick<NodeAddressClaim, 'nodeId' | 'network' | 'address'> & { readonly proof: AddressProof },
): Promise<void> {
  const { nodeId, network, address, proof } = claim;
  await db
    .insert(nodeAddresses)
    .values({ nodeId, network, address, state: 'confirmed', proof })
    .onConflictDoUpdate({
      target: [nodeAddresses.nodeId, nodeAddresses.network, nodeAddresses.address],
      set: { state: 'confirmed', proof },
    });
}

function keyOf(key: NodeAddressKey): Pick<NodeAddressClaim, 'nodeId' | 'network' | 'address'> {
  const network = key.network ?? DEFAULT_NETWORK;
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(network))
    throw new PicketError(
      'invalid_argument',
      'network_invalid',
      `Cannot name a network "${network.slice(0, 70)}": 1 to 63 lower-case letters, digits and dashes are expected`,
    );
  return { nodeId: key.nodeId, network, address: parseNodeAddress(key.address) };
}

function isAt(key: Pick<NodeAddressClaim, 'nodeId' | 'network' | 'address'>) {
  return and(
    eq(nodeAddresses.nodeId, key.nodeId),
    eq(nodeAddresses.network, key.network),
    eq(nodeAddresses.address, key.address),
  );
}

function claimOf(row: typeof nodeAddresses.$inferSelect): NodeAddressClaim {
  const { nodeId, network, address, state, proof } = row;
  return { nodeId: nodeId as SpiffeId, network, address: address as NodeAddress, state, proof };
}

async function requireNode(db: Database, nodeId: SpiffeId): Promise<void> {
  const rows = await db.select({ nodeId: nodes.nodeId }).from(nodes).where(eq(nodes.nodeId, nodeId));
  if (rows.length === 0) throw new PicketError('not_found', 'node_unknown', `There is no node "${nodeId}"`);
}

/** Traffic to an address goes to a service or to a node. */
async function requireNoService(db: Database, address: NodeAddress): Promise<void> {
  await lockServiceAddresses(db);
  const service = (await findServiceAddresses(db, [address])).get(address);
  if (service === undefined) return;
  throw new PicketError(
    'already_exists',
    'service_address_taken',
    `Address ${address} leads to the service "${service}"; take it from that first`,
  );
}

function addressTaken(address: string, cause: unknown): PicketError {
  return new PicketError(
    'already_exists',
    'address_taken',
    `Address ${address} is confirmed for another node; withdraw it there first`,
    { cause },
  );
}
