import type { FlowKey } from '../../capture/datagram-gate.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import type { UdpSocket } from '../../native/sock-diag-message.ts';
import type { ProcessIdentity } from '../../workload-attestation/process-identity.ts';
import type { Encounter } from '../judge/judge.ts';

/** Who sends a flow, and what is decided on of it. */
export interface Sender {
  readonly identity: ProcessIdentity;
  /** Null for a process without identity, or whose certificate is not there. */
  readonly svid: HeldSvid | null;
  readonly encounter: Encounter;
}

/** A flow that was allowed, and is as long as its sockets are, no other may have sent it, and the verdict stands. */
export interface Flow extends Sender {
  readonly key: FlowKey;
  /** Any of which may have sent it. */
  readonly sockets: readonly UdpSocket[];
  /** When one of them sent something that nobody had let pass, and that was sent on. */
  askedMs: number;
  /** When the gate was told last; undefined while it does not let it pass. */
  admittedMs: number | undefined;
}

/** The name of a flow: its user and both its ends. */
export function nameOfFlow({ uid, source, destination }: FlowKey): string {
  return `${uid} ${source.address} ${source.port} ${destination.address} ${destination.port}`;
}

/** What is decided on: UDP out of the mesh. */
export function encounterOfFlow(
  { source, destination }: FlowKey,
  identity: ProcessIdentity,
  svid: HeldSvid | null,
): Encounter {
  const spiffeId = svid?.spiffeId ?? (identity.kind === 'identified' ? identity.spiffeId : null);
  return {
    direction: 'outbound',
    caller: { spiffeId, ...source, certificateNotAfterMs: svid?.notAfterMs ?? 0 },
    target: { spiffeId: null, ...destination },
    transport: 'udp',
    process: { uid: identity.uid, pid: identity.pid },
  };
}
