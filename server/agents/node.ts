import { PicketError } from '../../shared/errors/errors.ts';
import type { AgentStatus } from '../../shared/protocol/sync.ts';
import type { Selector } from '../../shared/spiffe/selector.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { nodes } from '../datastore/schema.ts';

/** A host whose agent has attested. */
export interface Node {
  /** The agent's SPIFFE ID. */
  readonly nodeId: SpiffeId;
  readonly attestationType: string;
  /** Serial of the current certificate, lower-case hexadecimal. */
  readonly certSerial: string;
  readonly previousCertSerial: string | null;
  readonly expiry: Date;
  readonly selectors: readonly Selector[];
  readonly canReattest: boolean;
  readonly isBanned: boolean;
  readonly attestedAt: Date;
  readonly lastSeenAt: Date;
  readonly agentVersion: string;
  readonly status: AgentStatus | null;
}

/** The node that a row keeps; it was validated when it was written. */
export function nodeOf(row: typeof nodes.$inferSelect): Node {
  return { ...row, nodeId: row.nodeId as SpiffeId, selectors: row.selectors as readonly Selector[] };
}

/** `replacedSerial` is the certificate that the same proof earned before, if it did. Throws `permission_denied`: `node_banned`, `node_exists`. */
export function requireMayAttest(known: Node | undefined, replacedSerial: string | undefined): void {
  if (known === undefined) return;
  if (known.isBanned) throw denied('node_banned', `Node "${known.nodeId}" is banned`);
  if (!known.canReattest && known.certSerial !== replacedSerial)
    throw denied(
      'node_exists',
      `Node "${known.nodeId}" has attested before; an operator must evict it first`,
    );
}

/** Throws `permission_denied`: `node_unknown`, `node_banned`, `certificate_superseded`. */
export function requireStanding(
  node: Node | undefined,
  caller: { readonly nodeId: SpiffeId; readonly serial: string },
): Node {
  if (node === undefined) throw denied('node_unknown', `Node "${caller.nodeId}" has not attested`);
  if (node.isBanned) throw denied('node_banned', `Node "${caller.nodeId}" is banned`);
  if (caller.serial !== node.certSerial && caller.serial !== node.previousCertSerial)
    throw denied('certificate_superseded', `Node "${caller.nodeId}" has newer certificates than this one`);
  return node;
}

function denied(reason: string, message: string): PicketError {
  return new PicketError('permission_denied', reason, message);
}
