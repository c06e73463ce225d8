import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { RequestHead } from '../../../shared/wire/http1-head.ts';
import type { Hop } from '../../traces/traces.ts';

/** A request that was allowed, and has not both come and been answered whole. */
export interface UnderWay {
  readonly hop: Hop | undefined;
  readonly http: DecisionHttpRequest;
  readonly head: RequestHead;
  /** The head as the application gets it. */
  readonly rebuilt: Uint8Array;
  /** Whether anything of it was sent to the application. */
  isSent: boolean;
  /** Whether all of it was read from the client. */
  isComplete: boolean;
  /** An application may answer before it has read everything, and may want the rest all the same. */
  isAnswered: boolean;
  /** Whether the connection ends after its answer: the client wants it so, or was told so. */
  isLast: boolean;
}
