import { toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { OpenConnections } from '../connections/connections.ts';

export interface JudgeByTimeOptions {
  readonly connections: Pick<OpenConnections, 'reconsiderNext'>;
  /** Whether a verdict may change with time alone. */
  readonly authorizer: { readonly changesWithTime: boolean };
  readonly clock: Clock;
  readonly log: Log;
}

/** Every connection has its turn in each second, as long as that takes no more than a tenth of a core; with more connections, or a slow policy, it comes later. */
export const TIMED_JUDGEMENT = { everyMs: 1000, turnMs: 50, pieceMs: 5 } as const;
/** How much longer than a piece took the pause behind it is. */
const PAUSE = TIMED_JUDGEMENT.turnMs / TIMED_JUDGEMENT.pieceMs - 1;

/**
 * Judges open connections again and again while the policy reads the clock or a user whose token ends: what was allowed until six is cut after six. One pass begins each
 * second, in pieces of 5 ms. One judgement may take longer: the pause behind a piece is nine times as long as it took, so that all of it takes a tenth of a core. The returned
 * function ends it.
 */
export function judgeByTime(options: JudgeByTimeOptions): () => void {
  const { connections, authorizer, clock, log } = options;
  let cancel = (): void => undefined;
  const schedule = (delayMs: number): void => {
    cancel = clock.schedule(delayMs, run);
  };
  function run(): void {
    const beganMs = clock.monotonicMs();
    const endMs = beganMs + TIMED_JUDGEMENT.pieceMs;
    let isCutShort = false;
    try {
      if (authorizer.changesWithTime)
        connections.reconsiderNext(() => {
          isCutShort = clock.monotonicMs() >= endMs;
          return !isCutShort;
        });
    } catch (error) {
      log.error('connections_not_judged', { error: toPicketError(error) });
      isCutShort = true;
    }
    const pauseMs = PAUSE * Math.max(TIMED_JUDGEMENT.pieceMs, clock.monotonicMs() - beganMs);
    schedule(isCutShort ? pauseMs : Math.max(pauseMs, TIMED_JUDGEMENT.everyMs));
  }
  schedule(TIMED_JUDGEMENT.everyMs);
  return () => cancel();
}
