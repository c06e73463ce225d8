import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { ProcessIdentity } from '../../workload-attestation/process-identity.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import type { Party } from '../connections/connections.ts';
import type { Encounter } from '../judge/judge.ts';
import type { Passage } from '../../traces/traces.ts';

/** A captured connection of a process of this host, in the namespace of its socket. */
export interface Departure extends InNamespace {
  /** On whose account it goes. */
  readonly party: Party;
  readonly stream: ByteStream;
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  /** Who is asked to take it, where the destination is a service in several places. */
  readonly member?: SocketAddress;
  readonly connectionId: string;
  /** Its span, where connections are traced. */
  readonly passage?: Passage | undefined;
  /** Null for a process without identity, or whose certificate is not there. */
  readonly svid: HeldSvid | null;
  readonly identity: ProcessIdentity;
  readonly process: Encounter['process'];
  /** When what it is permitted by was looked at (`OpenConnections.round`). */
  readonly round: number;
}

/** Who departs, and to whom: `target` is null outside of the mesh and where nobody is known. */
export function encounterOf(
  departure: Omit<Departure, 'party'>,
  target: SpiffeId | null,
  peerSerial?: string,
): Encounter {
  const { svid, identity, source, destination, member, process, passage } = departure;
  const spiffeId = svid?.spiffeId ?? (identity.kind === 'identified' ? identity.spiffeId : null);
  return {
    direction: 'outbound',
    caller: { spiffeId, ...source, certificateNotAfterMs: svid?.notAfterMs ?? 0 },
    target: {
      spiffeId: target,
      ...destination,
      ...(member === undefined ? {} : { member: { address: member.address, port: member.port } }),
      ...(peerSerial === undefined ? {} : { certificateSerial: peerSerial }),
    },
    process,
    passage,
  };
}

/** The same, were it on the account of somebody else. */
export function withCaller(encounter: Encounter, spiffeId: SpiffeId): Encounter {
  return { ...encounter, caller: { ...encounter.caller, spiffeId } };
}
