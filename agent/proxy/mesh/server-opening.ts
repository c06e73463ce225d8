import type { DecisionReason } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { Refusal } from '../judge/judge.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { TunnelSocket } from '../tunnel/tunnel.ts';

/** The answer of somebody who decided against an opening. */
export interface OpeningDenial {
  readonly reason: DecisionReason;
  readonly decisionId: string;
  readonly message: string;
}

/** A connection that is asked for within a TLS connection. Of `accept` and `deny` one call counts. */
export interface ServerOpening {
  readonly connectionId: string;
  /** Whether that is the calling side's id, by which it records and traces the connection. */
  readonly isIdOfCaller: boolean;
  /** Of the trace that the calling side says it belongs to (W3C Trace Context), where its protocol has words for it; not looked at yet. */
  readonly traceparent?: string | undefined;
  readonly destination: SocketAddress;
  /** What the calling side says of its application: for the record only. */
  readonly claimedSource: SocketAddress;
  /** Why it is not even looked at: recorded and answered. */
  readonly refusal?: Refusal;
  /** After the client gave up, the stream fails at once. */
  accept(): ByteStream;
  deny(denial: OpeningDenial): void;
  /** Calls `listener` once if the client goes before it was answered. */
  onAbandoned(listener: () => void): void;
  /** Calls `listener` once when the calling side wants the connection to end soon; at once where it said so already. */
  onLeaving(listener: () => void): void;
}

/** What the called side of a protocol stands on, and whom it tells. */
export interface MeshServerOptions {
  readonly socket: TunnelSocket;
  readonly clock: Clock;
  /** How long an opening may wait for its answer. */
  readonly openingMs: number;
  /** Our end of the connection. */
  readonly local: SocketAddress;
  /** Theirs. */
  readonly peer: SocketAddress;
  /** As whom we answer. */
  readonly target: SpiffeId;
  /** A new UUID. */
  readonly newId: () => string;
  onOpening(opening: ServerOpening): void;
  /** Nothing is carried any more. */
  onIdle(): void;
  /** It broke while it carried something. */
  onBroken(why: string): void;
  onClosed(failure: StreamFailure): void;
}
