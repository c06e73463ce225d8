import type { DecisionReason } from '../../../shared/policy/decision.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { MeshProtocol } from './protocol.ts';
import type { ServerOpening } from './server-opening.ts';
import type { SpareEvent } from './spares.ts';

/** What the calling side asks of the other host. */
export interface MeshRequest {
  /** As whom we call. */
  readonly caller: HeldSvid;
  /** Who must answer, by the directory. */
  readonly target: SpiffeId;
  /** The application's address and port; the other agent listens on the mesh port of the same address, or `at` another. */
  readonly destination: SocketAddress;
  readonly at?: SocketAddress;
  /** Our own application's address: for the other side's record only. */
  readonly source: SocketAddress;
  /** UUID of the connection, in the records of both hosts. */
  readonly connectionId: string;
  /** As `DirectoryAnswer` has it. */
  readonly transport?: 'hbone';
  /** For connecting, from when that begins, and again for the answer, in milliseconds, where the dialer's own limits are longer. */
  readonly patienceMs?: number;
  /** The answer may take as long as the dialer's own limit, if the other host shows within `patienceMs` that it is there: it has somebody else to ask. */
  readonly isAnsweredSlowly?: boolean;
}

/** What a connection through the mesh was opened on: a TLS connection that was made for it, by a full handshake or a resumed session, or one that stood there. */
export type MeshConnectionUse = 'new' | 'resumed' | 'pooled';

/** What became of it. */
export type MeshOutcome =
  | {
      readonly kind: 'accepted';
      readonly stream: ByteStream;
      /** End of the called side's certificate. */
      readonly peerNotAfterMs: number;
      /** Of the called side's certificate, lower-case hexadecimal. */
      readonly peerSerial: string;
      readonly use: MeshConnectionUse;
      /** Tells the other host that this connection should end soon, as its protocol lets it. */
      readonly leave: () => void;
    }
  /** The other host decided against it and recorded that. */
  | {
      readonly kind: 'denied';
      readonly reason: DecisionReason;
      readonly decisionId: string;
      readonly message: string;
    }
  /** There is no connection, or none that can be trusted: recorded by the calling side. */
  | {
      readonly kind: 'failed';
      /** `caller_untrusted`: our own certificate is not valid now, which says nothing of the other host. */
      readonly reason:
        'target_unreachable' | 'target_untrusted' | 'caller_untrusted' | 'protocol_error' | 'overloaded';
      readonly message: string;
    };

/** Opens connections through the mesh, on pooled TLS connections where there are any. It never throws. */
export interface MeshDialer {
  open(request: MeshRequest): Promise<MeshOutcome>;
}

/** The calling workload, by the certificate that was verified for this very opening. */
export interface MeshCaller {
  readonly spiffeId: SpiffeId;
  readonly notAfterMs: number;
  /** Lower-case hexadecimal; absent for a caller of this same host, which shows no certificate. */
  readonly serial?: string;
  /** DER, for X-Forwarded-Client-Cert. */
  readonly leaf: Uint8Array;
}

/** Somebody asks for one of our workloads. Exactly one of `accept` and `deny` is called. */
export interface MeshOpening extends ServerOpening {
  readonly caller: MeshCaller;
  /** The workload that the caller asked for, and as which it was answered. */
  readonly target: SpiffeId;
  /** The TCP peer. */
  readonly peer: SocketAddress;
  /** When the first of both certificates ends, and the connection is cut, by the monotonic clock. */
  readonly endsAtMs: number;
  /** Why the connection is good no more by trust, time or our own identities: the listener cuts it for that. Undefined while it is. */
  findLapse(): StreamFailure | undefined;
}

/** A TLS handshake between agents: which side we were, and what came of it. */
export interface MeshHandshake {
  readonly side: 'caller' | 'called';
  readonly outcome: 'full' | 'resumed' | 'failed';
  /** Absent where it failed before that was known. */
  readonly protocol?: MeshProtocol;
}

/** Why a connection of another host was turned away when places ran short: it had proven nothing yet, it carried nothing, or all others carried something. */
export type TurnedAway = 'unproven' | 'idle' | 'full';

/** What metrics want to know of the mesh. */
export interface MeshObserver {
  handshaken(handshake: MeshHandshake): void;
  turnedAway(why: TurnedAway): void;
  /** What became of a connection that was made before anybody asked for it. */
  spare(what: SpareEvent): void;
  /** A connection to another agent broke while it carried something. */
  broke(side: MeshHandshake['side']): void;
}
