import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';

export interface FollowChangesOptions {
  /** `watchAddresses` or `watchRoutes` of agent/native. */
  readonly watch: (listeners: {
    readonly onChange: () => void;
    readonly onEnd: () => void;
  }) => Promise<() => void>;
  /** To be told; what it throws is logged. */
  readonly onChange: () => void;
  /** What is logged where the kernel does not tell. */
  readonly failed: string;
  readonly clock: Clock;
  readonly log: Log;
}

const AGAIN_MS = 1000;

/** Tells of every change of the host's addresses. As `followChanges`. */
export async function followAddresses(options: Omit<FollowChangesOptions, 'failed'>): Promise<Running> {
  return await followChanges({ ...options, failed: 'address_watch_failed' });
}

/** Tells of every change that the kernel tells, and begins anew where it told more than could be read. Never rejects. */
export async function followChanges(options: FollowChangesOptions): Promise<Running> {
  const following = new Following(options);
  await following.begin();
  return following;
}

class Following implements Running {
  readonly #options: FollowChangesOptions;
  #end: () => void = () => undefined;
  #isStopped = false;

  constructor(options: FollowChangesOptions) {
    this.#options = options;
  }

  async begin(): Promise<void> {
    try {
      const end = await this.#options.watch({ onChange: () => this.#tell(), onEnd: () => this.#later() });
      if (this.#isStopped) return end();
      this.#end = end;
    } catch (error) {
      this.#options.log.warn(this.#options.failed, { error: toPicketError(error) });
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
