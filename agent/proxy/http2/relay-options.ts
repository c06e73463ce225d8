import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Party } from '../connections/connections.ts';
import type { FairShare } from '../connections/fair-share.ts';
import type { FairTurns } from '../connections/fair-turns.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { Judgement, Refusal } from '../judge/judge.ts';

/** What a relay of HTTP/2 stands between, and whom it asks. */
export interface Http2RelayOptions {
  readonly client: ByteStream;
  /** Connects to the application, when the first request is allowed. Rejects with `unavailable`. */
  readonly openApplication: () => Promise<ByteStream>;
  /** Decides a request and records it; what is allowed perhaps not before `commit`. */
  readonly judge: (http: DecisionHttpRequest) => Judgement;
  /** Writes the records of what was judged. */
  readonly commit: () => void;
  /** Records a refusal that is not the policy's. */
  readonly refuse: (refusal: Refusal) => Judgement;
  /** Header block that tells the application who calls; may be empty. */
  readonly clientCertBlock: Uint8Array;
  /** When its requests are decided, and on whose account. */
  readonly turns: FairTurns;
  readonly party: Party;
  /** What the heads of all connections take. */
  readonly heads: FairShare;
  readonly clock: Clock;
  /** When the client's connection will be cut, by the monotonic clock; `Infinity` where that is not known. */
  readonly endsAtMs: number;
  /** Called once, when both sides are closed. */
  readonly onDone: (failure: StreamFailure | undefined) => void;
}
