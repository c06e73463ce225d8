import type { Party } from '../connections/connections.ts';
import type { ConnectionTurns, FairTurns } from '../connections/fair-turns.ts';
import { HTTP2_LIMITS } from './limits.ts';
import type { Http2Requests } from './requests.ts';
import type { Http2Sides } from './sides.ts';

export interface Http2TurnsOptions {
  readonly turns: FairTurns;
  readonly party: Party;
  readonly requests: Http2Requests;
  readonly sides: Http2Sides;
  /** Requests that were held are to be read. */
  readonly onTurn: () => void;
}

/** Reads requests in the connection's turns (`FairTurns`), of which one ends after so many of them, too; and none is taken while answers would only pile up. */
export class Http2Turns {
  readonly #options: Http2TurnsOptions;
  readonly #turns: ConnectionTurns;
  #isDue = false;
  #countBefore = 0;

  constructor(options: Http2TurnsOptions) {
    this.#options = options;
    this.#turns = options.turns.join(options.party.name, () => {
      this.#isDue = true;
      this.takeIfDue();
    });
  }

  /** To be called when the client is to be read: what is not to be decided now is held. */
  begin(): void {
    const { requests } = this.#options;
    this.#countBefore = requests.count;
    if (!requests.isHeld && !this.#turns.begin()) requests.hold();
  }

  /** One request more was read. */
  count(): void {
    const { requests } = this.#options;
    if (!this.#turns.isOver && requests.count % HTTP2_LIMITS.requestsInATurn !== 0) return;
    requests.hold();
    this.#turns.wait();
  }

  /** To be called when the client was read: what passed without a decision does not count. */
  end(): void {
    if (this.#options.requests.count !== this.#countBefore) this.#turns.end();
  }

  /** To be called whenever there may be room for answers again. */
  takeIfDue(): void {
    const { sides, onTurn } = this.#options;
    if (!this.#isDue || sides.isBackedUp || sides.isHeld) return;
    this.#isDue = false;
    if (this.#turns.begin()) onTurn();
  }
}
