import type { TracedRequest, Traces } from '../../traces/traces.ts';
import type { Judgement } from './judge.ts';

/** Decides a request under a span of its own, which the judgement carries on. `decide` gets the id of its trace for the record. */
export function judgeTraced(
  traces: Traces,
  request: TracedRequest,
  decide: (traceId: string) => Judgement,
): Judgement {
  const hop = traces.begin(request);
  const judgement = decide(hop.traceId);
  hop.judged(judgement);
  return { ...judgement, hop };
}
