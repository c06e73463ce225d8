import type { Clock } from '../../../shared/runtime/clock.ts';
import { FairShare } from '../connections/fair-share.ts';

const SECOND_MS = 1000;

/** So much is done in each second, of which no party has so much that others find nothing left: as `FairShare` has it of places. What was not done in one second is not saved for the next. */
export class FairPace {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #perSecond: number;
  #share: FairShare;
  #sinceMs = -Infinity;

  constructor(clock: Pick<Clock, 'monotonicMs'>, perSecond: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#share = new FairShare(perSecond);
  }

  /** Whether there is time for so many more of the party's; then they are counted. */
  tryTake(party: string, count = 1): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sinceMs >= SECOND_MS) {
      this.#sinceMs = nowMs;
      this.#share = new FairShare(this.#perSecond);
    }
    if (!this.#share.hasRoomFor(party, count)) return false;
    this.#share.add(party, count);
    return true;
  }
}
