import type { Clock } from '../../shared/runtime/clock.ts';
import type { HeldSvid } from './identity.ts';
import { renewAtMs, SvidLife } from './svid-life.ts';

/** An SVID with the times at which it is renewed and ends. */
export class RenewableSvid {
  readonly svid: HeldSvid;
  readonly #life: SvidLife;
  readonly #renewAtMs: number;

  /** `random`, from 0 to 1, spreads the renewal. */
  constructor(svid: HeldSvid, clock: Clock, random: number) {
    this.svid = svid;
    this.#life = new SvidLife(svid, clock);
    this.#renewAtMs = renewAtMs(svid, random);
  }

  get isEnded(): boolean {
    return this.#life.isEnded;
  }

  /** How long it is still valid, in milliseconds, by the stricter of two clocks; not positive: it has ended. */
  get remainingMs(): number {
    return this.#life.remainingMs;
  }

  /** How long until it is to be renewed, in milliseconds; not positive: now. A clock that was set back does not put it off. */
  get untilRenewalMs(): number {
    return this.remainingMs - (this.svid.notAfterMs - this.#renewAtMs);
  }

  /** How long until half of the time between its renewal and its end is over, in milliseconds: whoever was to renew it should have done so long ago. */
  get untilOverdueMs(): number {
    return this.remainingMs - (this.svid.notAfterMs - this.#renewAtMs) / 2;
  }
}
