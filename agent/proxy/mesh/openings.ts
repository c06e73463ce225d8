import type { Clock } from '../../../shared/runtime/clock.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import { isValidAt, type Validity } from '../../identity/svid-life.ts';
import type { MeshOutcome } from './mesh.ts';
import { failed } from './outcome.ts';

/** The openings of one dialer that wait for their outcome: so many at most, of callers who can prove themselves. */
export class Openings {
  readonly #max: number;
  readonly #clock: Clock;
  #count = 0;
  #isStopped = false;

  constructor(max: number, clock: Clock) {
    this.#max = max;
    this.#clock = clock;
  }

  /** Opens unless there are too many, or the caller's certificate is not valid now. */
  async admit(
    caller: Validity & Pick<HeldSvid, 'spiffeId'>,
    open: () => Promise<MeshOutcome>,
  ): Promise<MeshOutcome> {
    if (this.#isStopped || this.#count >= this.#max)
      return failed('overloaded', `${this.#count} connections are being opened already`);
    if (!isValidAt(caller, this.#clock.nowMs()))
      return failed('caller_untrusted', `The certificate of ${caller.spiffeId} is not valid now`);
    this.#count += 1;
    try {
      return await open();
    } finally {
      this.#count -= 1;
    }
  }

  /** Admits nothing more. */
  stop(): void {
    this.#isStopped = true;
  }
}
