import type { DecisionReason } from '../../../shared/policy/decision.ts';

/** Why a stream ended before its time. `reason` is absent where only the connection broke. */
export interface StreamFailure {
  readonly reason?: DecisionReason;
  /** The decision behind it, as the other host recorded it. */
  readonly decisionId?: string;
  /** One sentence for people. */
  readonly message: string;
}

/** Who reads a stream. Each function is called from the event loop, never from within a call to the stream itself. */
export interface ByteStreamReader {
  /** `bytes` are good only during the call: what is kept must be copied. */
  onData(bytes: Uint8Array): void;
  /** The other end sends no more; our direction stays open. */
  onEnd(): void;
  /** What `write` held back was sent. */
  onDrain(): void;
  /** The last call: both directions have ended cleanly, or with `failure` at least one did not. */
  onClose(failure: StreamFailure | undefined): void;
}

/**
 * Both directions of bytes with one peer, with back-pressure and half-close: a TCP socket, or one application connection within the
 * tunnel. It tells nothing before `attach`, and reads no more than a little ahead.
 */
export interface ByteStream {
  /** Makes `reader` the one who reads, in place of the one before, and starts to read unless paused. What ended before is told to the new reader. */
  attach(reader: ByteStreamReader): void;
  /** Sends bytes, keeping a copy of what cannot go at once. False: more than `HIGH_WATER_BYTES` wait, hold the source until `onDrain`. Ignored after `end` or the close. */
  write(bytes: Uint8Array): boolean;
  /** Ends our direction after what was written (half-close). */
  end(): void;
  /** Voids both directions; the peer sees a reset, within the tunnel with the reason. `onClose` is not called. Harmless when closed. */
  abort(failure?: StreamFailure): void;
  /** Holds the peer back. Calls do not nest. */
  pause(): void;
  resume(): void;
}

/** How much may wait to be sent before `write` answers false. */
export const HIGH_WATER_BYTES = 256 * 1024;
