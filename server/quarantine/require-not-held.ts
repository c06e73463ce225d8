import { and, eq, inArray, or } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import { segmentsOf } from '../../shared/spiffe/segment.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Database } from '../datastore/datastore.ts';
import { quarantines } from '../datastore/schema.ts';

/** Others know a quarantined node by what the server knows of it. Throws `failed_precondition`, reason `node_quarantined`, for who would make it forget that. */
export async function requireNodeNotHeld(db: Database, nodeId: SpiffeId): Promise<void> {
  const isHeld = and(eq(quarantines.kind, 'node'), eq(quarantines.subject, nodeId));
  if ((await db.$count(quarantines, isHeld)) === 0) return;
  throw refusal('node_quarantined', `Node "${nodeId}" is in quarantine, and would leave it by this`);
}

/**
 * A host knows a process of a quarantined workload by its entry. Throws `failed_precondition`, reason `workload_quarantined`, for who would make it forget that. A
 * quarantine of the node needs no entry.
 */
export async function requireWorkloadNotHeld(db: Database, spiffeId: SpiffeId): Promise<void> {
  const { kind, subject } = quarantines;
  const isHeld = or(
    and(eq(kind, 'workload'), eq(subject, spiffeId)),
    and(eq(kind, 'segment'), inArray(subject, [...segmentsOf(spiffeId)])),
  );
  if ((await db.$count(quarantines, isHeld)) === 0) return;
  throw refusal(
    'workload_quarantined',
    `"${spiffeId}" is in quarantine, and its processes would leave it by this`,
  );
}

function refusal(reason: string, why: string): PicketError {
  return new PicketError('failed_precondition', reason, `${why}; lift it first, see picket quarantine list`);
}
