import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { HeldSvid } from '../identity/identity.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { ProcessIdentity } from '../workload-attestation/process-identity.ts';
import type { ByteStream } from './byte-stream.ts';
import type { Party } from './connections.ts';
import type { Encounter } from './judge.ts';

/** A captured connection of a process of this host. */
export interface Departure {
  /** On whose account it goes. */
  readonly party: Party;
  readonly stream: ByteStream;
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly connectionId: string;
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
  const { svid, identity, source, destination, process } = departure;
  const spiffeId = svid?.spiffeId ?? (identity.kind === 'identified' ? identity.spiffeId : null);
  return {
    direction: 'outbound',
    caller: { spiffeId, ...source, certificateNotAfterMs: svid?.notAfterMs ?? 0 },
    target: {
      spiffeId: target,
      ...destination,
      ...(peerSerial === undefined ? {} : { certificateSerial: peerSerial }),
    },
    process,
  };
}

/** The same, were it on the account of somebody else. */
export function withCaller(encounter: Encounter, spiffeId: SpiffeId): Encounter {
  return { ...encounter, caller: { ...encounter.caller, spiffeId } };
}
