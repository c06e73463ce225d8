import type { QuarantineRecord } from '../../shared/protocol/quarantine.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { QuarantineIndex, type End } from './quarantine-index.ts';

/** Who calls whom. */
export interface Ends {
  readonly caller: End;
  readonly target: End;
}

/** Who neither calls nor is called, before any policy is asked. */
export interface Quarantine {
  /** One sentence on which end is held, for whoever is refused by it; undefined when neither is. */
  findHold(ends: Ends): string | undefined;
  /** Whether a workload of this host is held. */
  holdsOwn(id: SpiffeId): boolean;
  /** Calls `listener` after each change; open connections are then judged again. */
  watch(listener: () => void): () => void;
}

/** How it stands, for status and metrics. */
export interface QuarantineStatus {
  /** In the whole mesh. */
  readonly inForce: number;
  readonly isThisHost: boolean;
  /** Whether a workload of this host is held. */
  readonly holdsOwn: (id: SpiffeId) => boolean;
}

export interface HeldQuarantineOptions {
  /** What the server told; `position` is undefined as long as it has told nothing. */
  readonly told: Watched<{
    readonly position: unknown;
    readonly quarantines: ReadonlyMap<string, QuarantineRecord>;
  }>;
  /** The SPIFFE ID of this host's agent; undefined while it is not known. */
  readonly ownNode: () => SpiffeId | undefined;
}

/**
 * Quarantine as the server tells it. It knows no time: only the server ends one. Where it cannot be known who is held, everybody is: before the server has told
 * anything (a host whose state was lost), and as long as a host does not know which of the quarantined ones it may be.
 */
export class HeldQuarantine implements Quarantine {
  readonly #options: HeldQuarantineOptions;
  readonly #listeners = new Set<() => void>();
  readonly #unwatch: () => void;
  #index: QuarantineIndex;

  constructor(options: HeldQuarantineOptions) {
    const { told } = options;
    this.#options = options;
    this.#index = new QuarantineIndex(told.current.quarantines.values());
    this.#unwatch = told.watch(({ quarantines }, previous) => {
      if (quarantines === previous.quarantines) return;
      this.#index = new QuarantineIndex(quarantines.values());
      for (const listener of Array.from(this.#listeners)) listener();
    });
  }

  get status(): QuarantineStatus {
    return {
      inForce: this.#index.size,
      isThisHost: this.#holdsHost(),
      holdsOwn: (id) => this.holdsOwn(id),
    };
  }

  findHold({ caller, target }: Ends): string | undefined {
    if (!this.#isKnown())
      return 'It is not known who is in quarantine: the server has not told this host anything yet';
    const index = this.#index;
    if (index.size === 0) return undefined;
    if (this.#holdsHost()) return 'This host is in quarantine';
    if (isHeld(index, caller)) return 'The caller is in quarantine';
    if (isHeld(index, target)) return 'The called workload is in quarantine';
    if (index.hasNodes && index.isOnNode(caller)) return 'The host of the caller is in quarantine';
    if (index.hasNodes && index.isOnNode(target)) return 'The called host is in quarantine';
    return undefined;
  }

  holdsOwn(id: SpiffeId): boolean {
    return !this.#isKnown() || this.#holdsHost() || this.#index.holdsWorkload(id);
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Follows no more changes. */
  stop(): void {
    this.#unwatch();
  }

  #isKnown(): boolean {
    return this.#options.told.current.position !== undefined;
  }

  #holdsHost(): boolean {
    if (!this.#index.hasNodes) return false;
    const own = this.#options.ownNode();
    return own === undefined || this.#index.holdsNode(own);
  }
}

function isHeld(index: QuarantineIndex, { spiffeId }: End): boolean {
  return spiffeId !== null && index.holdsWorkload(spiffeId);
}
