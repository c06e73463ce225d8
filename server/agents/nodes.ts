import { and, asc, eq, gt, type SQL } from 'drizzle-orm';
import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import type { AgentStatus } from '../../shared/protocol/sync.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Selector } from '../../shared/spiffe/selector.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database, Datastore, Transaction } from '../datastore/datastore.ts';
import { cutPage, parsePageCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { nodeAddresses, nodes } from '../datastore/schema.ts';
import { noteDirectoryChanges } from '../directory/note-directory-changes.ts';
import { noteQuarantinedNode } from '../quarantine/quarantine-items.ts';
import { requireNodeNotHeld } from '../quarantine/require-not-held.ts';
import { nodeOf, requireMayAttest, requireStanding, type Node } from './node.ts';
import { writeClaims, writeDeclared } from './node-addresses.ts';

/** What attestation proved, with the certificate that was issued for it. */
export interface NodeAttestation {
  readonly nodeId: SpiffeId;
  readonly attestationType: string;
  readonly certificate: NodeCertificate;
  readonly selectors: readonly Selector[];
  readonly canReattest: boolean;
  readonly agentVersion: string;
  /** Declared by an operator beforehand: confirmed at once. */
  readonly declaredAddresses: readonly string[];
  /** Claimed by the host: pending. */
  readonly claimedAddresses: readonly string[];
}

/** `IssuedCertificate` fits. */
export interface NodeCertificate {
  readonly serial: string;
  readonly notAfterMs: number;
}

export interface NodeFilter {
  readonly attestationType?: string;
  readonly isBanned?: boolean;
  readonly cursor?: string;
  readonly limit?: number;
}

export interface NodePage {
  readonly nodes: readonly Node[];
  /** Absent on the last page. */
  readonly nextCursor?: string;
}

/** The hosts of the mesh, by the identity of their agent. */
export class Nodes {
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #log: Log;

  constructor(options: { readonly datastore: Datastore; readonly clock: Clock; readonly log: Log }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /**
   * Keeps the result of an attestation; only when this succeeds may the host have its certificate. `admit` runs in the same transaction, for what must be kept or used
   * up with it; it tells the serial of the certificate that the same proof earned before, if it did. Throws what `admit` throws and `permission_denied`:
   * `node_banned`; `node_exists` for a host of that name that may not attest again (an operator evicts it first).
   */
  async recordAttestation(
    attestation: NodeAttestation,
    admit: (transaction: Transaction) => Promise<string | undefined> = () => Promise.resolve(undefined),
  ): Promise<Node> {
    const { nodeId } = attestation;
    const { node, taken } = await this.#datastore.write((transaction) =>
      this.#noteChanges(transaction, nodeId, async () => {
        const { db } = transaction;
        const replacedSerial = await admit(transaction);
        requireMayAttest(await findNode(db, nodeId), replacedSerial);
        const row = this.#rowOf(attestation);
        const rows = await db
          .insert(nodes)
          .values(row)
          .onConflictDoUpdate({ target: nodes.nodeId, set: row })
          .returning();
        await writeClaims(db, { nodeId, addresses: attestation.claimedAddresses });
        const taken = await writeDeclared(db, { nodeId, addresses: attestation.declaredAddresses });
        // A stream of the time before the attestation is judged again.
        transaction.changed({ kind: 'node', key: nodeId, scope: nodeId });
        return { node: nodeOf(requireNode(rows[0], nodeId)), taken };
      }),
    );
    if (taken.length > 0) this.#log.warn('node_address_taken', { nodeId, addresses: taken });
    return node;
  }

  /**
   * The node that calls with the certificate of `serial`. Throws `permission_denied`: `node_unknown` (never attested, or evicted), `node_banned`,
   * `certificate_superseded` when the serial is neither the current nor the previous one: two hosts share an identity, or a copy is in use.
   */
  async authenticate(nodeId: SpiffeId, serial: string): Promise<Node> {
    return requireStanding(await this.find(nodeId), { nodeId, serial });
  }

  /**
   * Puts a renewed certificate in force. The one that asked for it stays good until the next renewal, because the answer may be lost. Throws as
   * `authenticate`.
   */
  async recordRenewal(renewal: {
    readonly nodeId: SpiffeId;
    /** Serial of the certificate with which the agent asked. */
    readonly presentedSerial: string;
    readonly certificate: NodeCertificate;
  }): Promise<Node> {
    const { nodeId, presentedSerial, certificate } = renewal;
    return await this.#datastore.write(async ({ db }) => {
      requireStanding(await findNode(db, nodeId, { isForUpdate: true }), { nodeId, serial: presentedSerial });
      const rows = await db
        .update(nodes)
        .set({
          certSerial: certificate.serial,
          previousCertSerial: presentedSerial,
          expiry: new Date(certificate.notAfterMs),
          lastSeenAt: this.#now(),
        })
        .where(eq(nodes.nodeId, nodeId))
        .returning();
      return nodeOf(requireNode(rows[0], nodeId));
    });
  }

  /** Keeps what an agent says of itself, and its claims to addresses. Throws `not_found`, reason `node_unknown`. */
  async recordStatus(nodeId: SpiffeId, status: AgentStatus): Promise<void> {
    const agentVersion = storableText(status.agentVersion);
    await this.#datastore.write(async ({ db }) => {
      const rows = await db
        .update(nodes)
        .set({ status: { ...status, agentVersion }, agentVersion, lastSeenAt: this.#now() })
        .where(eq(nodes.nodeId, nodeId))
        .returning({ nodeId: nodes.nodeId });
      requireNode(rows[0], nodeId);
      // Pending claims are in no directory: nothing to note.
      await writeClaims(db, { nodeId, addresses: status.addresses });
    });
  }

  /** Notes that the agent was heard of. */
  async recordContact(nodeId: SpiffeId): Promise<void> {
    await this.#datastore.write(async ({ db }) => {
      await db.update(nodes).set({ lastSeenAt: this.#now() }).where(eq(nodes.nodeId, nodeId));
    });
  }

  /**
   * Shuts a node out, or lets it in again: while banned it gets nothing from the server, its streams end and its listeners leave the directory.
   * Certificates that it has stay valid until they end. Throws `not_found`, reason `node_unknown`.
   */
  async setBanned(nodeId: SpiffeId, isBanned: boolean): Promise<Node> {
    return await this.#change(nodeId, async ({ db }) => {
      const rows = await db.update(nodes).set({ isBanned }).where(eq(nodes.nodeId, nodeId)).returning();
      return nodeOf(requireNode(rows[0], nodeId));
    });
  }

  /**
   * Forgets a node, its ban and its addresses: the host must attest anew, and may, also by a new join token. Throws `not_found`, reason `node_unknown`;
   * `failed_precondition`, reason `node_quarantined`.
   */
  async evict(nodeId: SpiffeId): Promise<Node> {
    return await this.#change(nodeId, async ({ db }) => {
      await requireNodeNotHeld(db, nodeId);
      const rows = await db.delete(nodes).where(eq(nodes.nodeId, nodeId)).returning();
      await db.delete(nodeAddresses).where(eq(nodeAddresses.nodeId, nodeId));
      return nodeOf(requireNode(rows[0], nodeId));
    });
  }

  /** The node of that identity, or undefined. */
  async find(nodeId: SpiffeId): Promise<Node | undefined> {
    return await findNode(this.#datastore.db, nodeId);
  }

  /** A page of nodes in the order of their identities. Throws `invalid_argument`: `cursor_invalid`, `limit_invalid`. */
  async list(filter: NodeFilter = {}): Promise<NodePage> {
    const limit = requirePageSize(filter.limit);
    const rows = await this.#datastore.db
      .select()
      .from(nodes)
      .where(and(...conditionsOf(filter)))
      .orderBy(asc(nodes.nodeId))
      .limit(limit + 1);
    const { page, next } = cutPage(rows, { limit, keyOf: (last) => [last.nodeId] });
    return { nodes: page.map(nodeOf), ...next };
  }

  async #change(nodeId: SpiffeId, work: (transaction: Transaction) => Promise<Node>): Promise<Node> {
    return await this.#datastore.write((transaction) =>
      this.#noteChanges(transaction, nodeId, async () => {
        transaction.changed({ kind: 'node', key: nodeId, scope: nodeId });
        return await work(transaction);
      }),
    );
  }

  async #noteChanges<T>(transaction: Transaction, nodeId: SpiffeId, work: () => Promise<T>): Promise<T> {
    return await noteDirectoryChanges(transaction, [nodeId], () =>
      noteQuarantinedNode(transaction, nodeId, work),
    );
  }

  #rowOf(attestation: NodeAttestation): typeof nodes.$inferInsert {
    const { nodeId, attestationType, selectors, canReattest, certificate } = attestation;
    return {
      nodeId,
      attestationType,
      selectors,
      canReattest,
      certSerial: certificate.serial,
      previousCertSerial: null,
      expiry: new Date(certificate.notAfterMs),
      attestedAt: this.#now(),
      lastSeenAt: this.#now(),
      agentVersion: storableText(attestation.agentVersion),
    };
  }

  #now(): Date {
    return new Date(this.#clock.nowMs());
  }
}

async function findNode(
  db: Database,
  nodeId: SpiffeId,
  options: { readonly isForUpdate?: boolean } = {},
): Promise<Node | undefined> {
  const query = db.select().from(nodes).where(eq(nodes.nodeId, nodeId));
  const rows = await (options.isForUpdate === true ? query.for('update') : query);
  return rows[0] === undefined ? undefined : nodeOf(rows[0]);
}

function requireNode<Row>(row: Row | undefined, nodeId: SpiffeId): Row {
  if (row !== undefined) return row;
  throw new PicketError('not_found', 'node_unknown', `There is no node "${nodeId}"`);
}

function conditionsOf(filter: NodeFilter): readonly (SQL | undefined)[] {
  const { attestationType, isBanned, cursor } = filter;
  return [
    attestationType === undefined ? undefined : eq(nodes.attestationType, attestationType),
    isBanned === undefined ? undefined : eq(nodes.isBanned, isBanned),
    cursor === undefined ? undefined : gt(nodes.nodeId, parsePageCursor(cursor, z.tuple([z.string()]))[0]),
  ];
}

/** PostgreSQL keeps no NUL in a text, and an agent's version is no reason to turn it away. */
function storableText(text: string): string {
  return text.replaceAll('\0', '');
}
