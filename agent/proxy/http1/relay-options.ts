import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { RecordBatch } from '../../audit/record-batch.ts';
import type { Party } from '../connections/connections.ts';
import type { FairTurns } from '../connections/fair-turns.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { Judgement, Refusal } from '../judge/judge.ts';

/** What a relay of HTTP/1.1 stands between, and whom it asks. */
export interface Http1RelayOptions {
  readonly client: ByteStream;
  /** Connects to the application, when the first request is allowed. Rejects with `unavailable`. */
  readonly openApplication: () => Promise<ByteStream>;
  /** Connects to it anew, where it may be asked on another connection. */
  readonly reopenApplication?: (() => Promise<ByteStream>) | undefined;
  /** Decides a request and records it; what is allowed perhaps later, with others. */
  readonly judge: (http: DecisionHttpRequest) => Judgement;
  /** Tells, later, whether the record of what is allowed was kept. */
  readonly whenKept: (batch: RecordBatch, goOn: (isKept: boolean) => void) => void;
  /** Records a refusal that is not the policy's. */
  readonly refuse: (refusal: Refusal) => Judgement;
  /** Field line that tells the application who calls; may be empty. */
  readonly clientCertLine: Uint8Array;
  /** Whether a client that asks for nothing is ended though the application is connected, which then is not its own choice to wait for it. */
  readonly endsIdle: boolean;
  /** When its requests are decided, and on whose account. */
  readonly turns: FairTurns;
  readonly party: Party;
  readonly clock: Clock;
  /** When the client's connection will be cut, by the monotonic clock; `Infinity` where that is not known. */
  readonly endsAtMs: number;
  /** Called once, when both sides are closed. */
  readonly onDone: (failure: StreamFailure | undefined) => void;
}
