import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import type { Refusal } from '../judge/judge.ts';
import type { MeshConnectionUse, MeshOutcome } from './mesh.ts';

/** Who answers in the mesh, and by which certificate. */
export interface Way {
  readonly target: SpiffeId;
  readonly far: ByteStream;
  readonly peerSerial: string;
  readonly use: MeshConnectionUse;
  /** Tells the called side that the connection should end soon: it knows its protocol. */
  readonly leave: () => void;
}

/** Why there is no way, as the calling side records it. */
export function refusalOf(outcome: Exclude<MeshOutcome, { kind: 'accepted' }>): Refusal {
  const { reason, message } = outcome;
  if (outcome.kind === 'failed') return { reason: outcome.reason, message };
  // A host that denies for the reason of an allow makes no sense, and is not believed.
  return reason === 'policy_allow'
    ? { reason: 'protocol_error', message }
    : { reason, message, decisionId: outcome.decisionId, isTold: true };
}
