import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { ByteStream, StreamFailure } from './byte-stream.ts';
import type { Judgement, Refusal } from './judge.ts';

/** What a relay of HTTP/2 stands between, and whom it asks. */
export interface Http2RelayOptions {
  readonly client: ByteStream;
  /** Connects to the application, when the first request is allowed. Rejects with `unavailable`. */
  readonly openApplication: () => Promise<ByteStream>;
  /** Decides a request and records it. */
  readonly judge: (http: DecisionHttpRequest) => Judgement;
  /** Records a refusal that is not the policy's. */
  readonly refuse: (refusal: Refusal) => Judgement;
  /** Header block that tells the application who calls; may be empty. */
  readonly clientCertBlock: Uint8Array;
  readonly clock: Clock;
  /** When the client's connection will be cut, by the monotonic clock; `Infinity` where that is not known. */
  readonly endsAtMs: number;
  /** Called once, when both sides are closed. */
  readonly onDone: (failure: StreamFailure | undefined) => void;
}
