import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { Encounter, Refusal } from '../judge/judge.ts';
import type { MeshCaller, MeshOpening } from '../mesh/mesh.ts';
import type { Passage } from '../../traces/traces.ts';

/** Somebody asks for a workload of this host: through the mesh, in plaintext from outside of it, or from this host itself. */
export interface Arrival extends InNamespace {
  readonly connectionId: string;
  /** As of a `ServerOpening`; it is not where nobody asked by a tunnel. */
  readonly isIdOfCaller?: boolean;
  /** As of a `ServerOpening`. */
  readonly traceparent?: string | undefined;
  /** Its span, where connections are traced. */
  readonly passage?: Passage | undefined;
  /** Null for a caller that proved nothing. */
  readonly caller: MeshCaller | null;
  /** The caller's own address. */
  readonly source: SocketAddress;
  /** Whom it asked for; null: whoever is registered at the port. */
  readonly target: SpiffeId | null;
  readonly destination: SocketAddress;
  /** Whether it comes from a process of this host, to which the loopback addresses of its `namespace` are open. */
  readonly isLocal: boolean;
  /** When its connection will be cut because a certificate ends, by the monotonic clock; `Infinity` for a connection without. */
  readonly endsAtMs: number;
  /** The calling process, on this host alone. */
  readonly process: Encounter['process'];
  /** Why the caller is not who it was any more; undefined while it is. */
  readonly findLoss: () => Refusal | undefined;
  /** Why it is turned away, whatever it asks for. */
  readonly refusal?: Refusal;
  /** Calls `listener` once when the calling side wants the connection to end soon; at once where it does already. */
  readonly onLeaving: (listener: () => void) => void;
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
    isIdOfCaller: opening.isIdOfCaller,
    traceparent: opening.traceparent,
    caller: opening.caller,
    source: { address: opening.peer.address, port: opening.claimedSource.port },
    target: opening.target,
    destination: opening.destination,
    isLocal: false,
    endsAtMs: opening.endsAtMs,
    process: null,
    findLoss: () => refusalOf(opening.findLapse()),
    ...(opening.refusal !== undefined && { refusal: opening.refusal }),
    onLeaving: (listener) => opening.onLeaving(listener),
    accept: () => opening.accept(),
    deny: (denial) => opening.deny(denial),
  };
}
