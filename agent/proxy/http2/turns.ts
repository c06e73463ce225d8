import type { Clock } from '../../../shared/runtime/clock.ts';
import { HTTP2_LIMITS } from './limits.ts';
import type { Http2Requests } from './requests.ts';
import type { Http2Sides } from './sides.ts';

export interface Http2TurnsOptions {
  readonly clock: Clock;
  readonly requests: Http2Requests;
  readonly sides: Http2Sides;
  /** Requests that were held are to be read. */
  readonly onTurn: () => void;
}

/** Lets others have their turn after so many requests of one client, or so long, and the client its own when its answers would not only pile up. */
export class Http2Turns {
  readonly #options: Http2TurnsOptions;
  #isDue = false;
  #beganMs = 0;

  constructor(options: Http2TurnsOptions) {
    this.#options = options;
  }

  /** To be called when the client begins to be read. */
  begin(): void {
    this.#beganMs = this.#options.clock.monotonicMs();
  }

  /** One request more was read. */
  count(): void {
    const { clock, requests } = this.#options;
    const isOver = clock.monotonicMs() - this.#beganMs >= HTTP2_LIMITS.turnMs;
    if (!isOver && requests.count % HTTP2_LIMITS.requestsInATurn !== 0) return;
    requests.hold();
    clock.schedule(0, () => {
      this.#isDue = true;
      this.takeIfDue();
    });
  }

  /** To be called whenever there may be room for answers again. */
  takeIfDue(): void {
    const { sides, onTurn } = this.#options;
    if (!this.#isDue || sides.isBackedUp || sides.isHeld) return;
    this.#isDue = false;
    onTurn();
  }
}
