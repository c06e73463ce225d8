import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';

type Routed = ReadonlyMap<string, Pick<NetworkNamespace, 'cookie'>>;

export interface KeptRoutesOptions {
  /** Where the host's routes lead. Throws where they cannot be read. */
  readonly read: (namespaces: readonly NetworkNamespace[]) => Routed;
  /** Has them looked at again. */
  readonly again: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** How long what was read last counts while nothing can be read, in milliseconds: one failure would cut all that is open to all pods. */
const KEPT_MS = 2000;
/** When it is read again after it could not be, in milliseconds: as long as something counts, and after that. */
const AGAIN_MS = 50;
const LATER_MS = 1000;

/** Where the host's routes lead, also for a moment in which that cannot be read. What leads to a namespace that is gone meanwhile is the asker's to leave out. */
export class KeptRoutes {
  readonly #options: KeptRoutesOptions;
  #last: Routed = new Map();
  #failedAtMs: number | undefined;
  #cancel: () => void = () => undefined;

  constructor(options: KeptRoutesOptions) {
    this.#options = options;
  }

  /** Never throws: what could not be read for two seconds leads to nobody. */
  readonly find = (namespaces: readonly NetworkNamespace[]): Routed => {
    this.#cancel();
    try {
      this.#last = this.#options.read(namespaces);
      this.#failedAtMs = undefined;
    } catch (error) {
      this.#fail(error);
    }
    return this.#last;
  };

  #fail(error: unknown): void {
    const { again, clock, log } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#failedAtMs === undefined) log.error('routes_not_read', { error: toPicketError(error) });
    this.#failedAtMs ??= nowMs;
    const isKept = nowMs - this.#failedAtMs < KEPT_MS;
    if (!isKept) this.#last = new Map();
    this.#cancel = clock.schedule(isKept ? AGAIN_MS : LATER_MS, again);
  }
}
