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

/** Lets others have their turn after so many requests of one client, and the client its own when its answers would not only pile up. */
export class Http2Turns {
  readonly #options: Http2TurnsOptions;
  #isDue = false;

  constructor(options: Http2TurnsOptions) {
    this.#options = options;
  }

  /** One request more was read. */
  count(): void {
    const { clock, requests } = this.#options;
    if (requests.count % HTTP2_LIMITS.requestsInATurn !== 0) return;
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
