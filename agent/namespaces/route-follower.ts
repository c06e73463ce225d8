import type { Clock } from '../../shared/runtime/clock.ts';
import type { Namespaces } from './namespaces.ts';

export interface RouteFollowerOptions {
  readonly namespaces: Pick<Namespaces, 'followRoutes'>;
  readonly clock: Clock;
}

/** The first look comes so long after the first change, in milliseconds: who makes a pod changes several things. Each further one waits twice as long. */
const FIRST_MS = 10;
const MAX_MS = 2000;
/** After so long without a change it begins anew; as often is looked whatever was heard. */
const QUIET_MS = 5000;

/**
 * Looks where the host's routes lead when they have changed. Who is root in a namespace brings such changes about as often as he likes, by his end of the pair, and each may make all that is open
 * be judged again: so looks that follow each other are further and further apart.
 */
export class RouteFollower {
  readonly #options: RouteFollowerOptions;
  #waitMs = FIRST_MS;
  #heardAtMs = -Infinity;
  #isDue = false;
  #isStopped = false;
  #cancel: () => void = () => undefined;

  constructor(options: RouteFollowerOptions) {
    this.#options = options;
    this.#lookIn(QUIET_MS);
  }

  /** Something has changed. */
  readonly hear = (): void => {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#heardAtMs >= QUIET_MS) this.#waitMs = FIRST_MS;
    this.#heardAtMs = nowMs;
    if (this.#isDue || this.#isStopped) return;
    this.#isDue = true;
    this.#lookIn(this.#waitMs);
    this.#waitMs = Math.min(MAX_MS, 2 * this.#waitMs);
  };

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  #lookIn(ms: number): void {
    this.#cancel();
    this.#cancel = this.#options.clock.schedule(ms, () => {
      this.#isDue = false;
      this.#options.namespaces.followRoutes();
      this.#lookIn(QUIET_MS);
    });
  }
}
