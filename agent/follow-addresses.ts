import { toPicketError } from '../shared/errors/errors.ts';
import type { Clock } from '../shared/runtime/clock.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Running } from '../shared/runtime/shutdown.ts';

export interface FollowAddressesOptions {
  /** `watchAddresses` of agent/native. */
  readonly watch: (listeners: {
    readonly onChange: () => void;
    readonly onEnd: () => void;
  }) => Promise<() => void>;
  /** To be told; what it throws is logged. */
  readonly onChange: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

const AGAIN_MS = 1000;

/** Tells of every change of the host's addresses, and begins anew where the kernel told more than could be read. Never rejects. */
export async function followAddresses(options: FollowAddressesOptions): Promise<Running> {
  const following = new Following(options);
  await following.begin();
  return following;
}

class Following implements Running {
  readonly #options: FollowAddressesOptions;
  #end: () => void = () => undefined;
  #isStopped = false;

  constructor(options: FollowAddressesOptions) {
    this.#options = options;
  }

  async begin(): Promise<void> {
    try {
      const end = await this.#options.watch({ onChange: () => this.#tell(), onEnd: () => this.#later() });
      if (this.#isStopped) return end();
      this.#end = end;
    } catch (error) {
      this.#options.log.warn('address_watch_failed', { error: toPicketError(error) });
      this.#later();
    }
  }

  stop(): Promise<void> {
    this.#isStopped = true;
    this.#end();
    return Promise.resolve();
  }

  #tell(): void {
    try {
      this.#options.onChange();
    } catch (error) {
      this.#options.log.warn('addresses_not_told', { error: toPicketError(error) });
    }
  }

  /** What happened meanwhile nobody has heard. */
  #later(): void {
    this.#end = this.#options.clock.schedule(AGAIN_MS, () => {
      this.#tell();
      void this.begin();
    });
  }
}
