import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { ByteStream, StreamFailure } from './byte-stream.ts';
import type { Encounter, Refusal } from './judge.ts';
import type { MeshCaller, MeshOpening } from './mesh.ts';

/** Somebody asks for a workload of this host: through the mesh, in plaintext from outside of it, or from this host itself. */
export interface Arrival {
  readonly connectionId: string;
  /** Null for a caller that proved nothing. */
  readonly caller: MeshCaller | null;
  /** The caller's own address. */
  readonly source: SocketAddress;
  /** Whom it asked for; null: whoever is registered at the port. */
  readonly target: SpiffeId | null;
  readonly destination: SocketAddress;
  /** Whether it comes from a process of this host, to which loopback addresses are open. */
  readonly isLocal: boolean;
  /** When its connection will be cut because a certificate ends, by the monotonic clock; `Infinity` for a connection without. */
  readonly endsAtMs: number;
  /** The calling process, on this host alone. */
  readonly process: Encounter['process'];
  /** Why the caller is not who it was any more; undefined while it is. */
  readonly findLoss: () => Refusal | undefined;
  readonly accept: () => ByteStream;
  readonly deny: MeshOpening['deny'];
}

function refusalOf(failure: StreamFailure | undefined): Refusal | undefined {
  if (failure === undefined) return undefined;
  const { reason = 'caller_untrusted', message } = failure;
  return { reason: reason === 'policy_allow' ? 'protocol_error' : reason, message };
}

/** An opening of the mesh as an arrival. The address that counts is the TCP peer's, not what the other side says of its application. */
export function arrivalOfOpening(opening: MeshOpening): Arrival {
  return {
    connectionId: opening.connectionId,
    caller: opening.caller,
    source: { address: opening.peer.address, port: opening.claimedSource.port },
    target: opening.target,
    destination: opening.destination,
    isLocal: false,
    endsAtMs: opening.endsAtMs,
    process: null,
    findLoss: () => refusalOf(opening.findLapse()),
    accept: () => opening.accept(),
    deny: (denial) => opening.deny(denial),
  };
}
