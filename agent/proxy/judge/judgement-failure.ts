import type { StreamFailure } from '../streams/byte-stream.ts';
import type { Judgement } from './judge.ts';

/** Why a stream ends, as its other end is told. */
export function failureOf({ decisionId, verdict }: Judgement): StreamFailure {
  return { reason: verdict.reason, decisionId, message: verdict.message };
}
