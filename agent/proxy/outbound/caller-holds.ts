import type { Watched } from '../../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { HeldSvid, WorkloadIdentity } from '../../identity/identity.ts';
import { isValidAt } from '../../identity/svid-life.ts';
import type { ProcessIdentity } from '../../workload-attestation/process-identity.ts';
import { withCaller } from './departure.ts';
import type { Encounter, Judge, Refusal } from '../judge/judge.ts';
import { whyUnidentified } from './why-unidentified.ts';

/** The certificate of an identity that is good now; null where there is none. */
export function findValidSvid(
  identities: Watched<ReadonlyMap<string, WorkloadIdentity>>,
  spiffeId: SpiffeId,
  nowMs: number,
): HeldSvid | null {
  for (const { entry, svid } of identities.current.values())
    if (entry.spiffeId === spiffeId && isValidAt(svid, nowMs)) return svid;
  return null;
}

/** Why a process that calls without a certificate may not: it is held by what registration says that it is, or may be. */
export function findHoldOfNobody(
  judge: Pick<Judge, 'findHold'>,
  encounter: Encounter,
  identity: ProcessIdentity,
): Refusal | undefined {
  const hold = judge.findHold(encounter);
  if (hold !== undefined || identity.kind === 'identified') return hold;
  const mayBeHeld = identity.mayBe?.some(
    (spiffeId) => judge.findHold(withCaller(encounter, spiffeId)) !== undefined,
  );
  if (mayBeHeld !== true) return undefined;
  return {
    reason: 'quarantined',
    message: `${whyUnidentified(identity)}, and it may be a workload in quarantine`,
  };
}
