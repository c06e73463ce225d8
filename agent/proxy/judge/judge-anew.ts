import { toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { Change, OpenConnections } from '../connections/connections.ts';
import { within, type MayGoOn } from '../connections/piecewise.ts';

/** How long the streams of open connections are judged before others have their turn, in milliseconds. */
export const PIECE_MS = 5;

export interface JudgeAnewOptions {
  readonly connections: Pick<OpenConnections, 'reconsiderAll' | 'reconsiderRest'>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Judges all that is open whenever what it was allowed by has changed: connections at once, and where that was the policy the streams within them for 5 ms. What is left then
 * stands still, and is judged in pieces between which others have their turn: 4,096 streams take 40 ms under a small policy, and 6 s under one of 10,000 rules.
 */
export class JudgeAnew {
  readonly #options: JudgeAnewOptions;
  #cancelRest = (): void => undefined;

  constructor(options: JudgeAnewOptions) {
    this.#options = options;
  }

  /** Whoever told of the change has others to tell: a fault of ours must not keep it from them, and is logged. What could not be judged was cut. */
  begin(change: Change): void {
    this.#judge((mayGoOn) => this.#options.connections.reconsiderAll(mayGoOn, change));
  }

  stop(): void {
    this.#cancelRest();
  }

  #judge(work: (mayGoOn: MayGoOn) => boolean): void {
    const { connections, clock, log } = this.#options;
    let isDone = false;
    try {
      isDone = work(within(clock, PIECE_MS));
    } catch (error) {
      log.error('connections_not_judged', { error: toPicketError(error) });
    }
    this.#cancelRest();
    if (isDone) return;
    this.#cancelRest = clock.schedule(0, () => this.#judge((mayGoOn) => connections.reconsiderRest(mayGoOn)));
  }
}
