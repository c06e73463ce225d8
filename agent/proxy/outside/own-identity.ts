import type { Clock } from '../../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { ProcessIdentifier } from '../../workload-attestation/process-identity.ts';

export interface OwnIdentityOptions {
  readonly processes: Pick<ProcessIdentifier, 'identitiesOf'>;
  /** Of this process. */
  readonly pid: number;
  readonly clock: Clock;
  /** It earns something no more that it was found to earn: `hasLost` tells of what. */
  readonly onLost: () => void;
}

/** How long a look counts: registration may change, and so may the program's file. */
const FRESH_MS = 1000;
/** For how long it may be that nobody can tell: something else may take all descriptors, and that ends. */
const UNTOLD_MS = 10_000;

/** What this process itself earns by registration, like any other. What was asked for once and found is looked at again each second. */
export class OwnIdentity {
  readonly #options: OwnIdentityOptions;
  #looked: { readonly earned: Promise<readonly SpiffeId[]>; readonly atMs: number } | undefined;
  readonly #reliedOn = new Set<SpiffeId>();
  readonly #lost = new Set<SpiffeId>();
  #toldAtMs = 0;
  #cancelLook: (() => void) | undefined;

  constructor(options: OwnIdentityOptions) {
    this.#options = options;
  }

  /** Whether this process earns an identity. Rejects where that cannot be told. */
  async earns(id: SpiffeId): Promise<boolean> {
    const isEarned = (await this.#earned()).includes(id);
    if (!isEarned) return false;
    this.#lost.delete(id);
    this.#reliedOn.add(id);
    this.#toldAtMs = this.#options.clock.monotonicMs();
    this.#lookAgain();
    return true;
  }

  /** Whether it was found to earn the identity, and does so no more. */
  hasLost(id: SpiffeId): boolean {
    return this.#lost.has(id);
  }

  stop(): void {
    this.#reliedOn.clear();
    this.#cancelLook?.();
  }

  async #earned(): Promise<readonly SpiffeId[]> {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#looked === undefined || nowMs - this.#looked.atMs >= FRESH_MS)
      this.#looked = { earned: this.#look(), atMs: nowMs };
    return await this.#looked.earned;
  }

  async #look(): Promise<readonly SpiffeId[]> {
    const { processes, pid } = this.#options;
    return (await processes.identitiesOf(pid)).spiffeIds;
  }

  #lookAgain(): void {
    if (this.#reliedOn.size === 0 || this.#cancelLook !== undefined) return;
    this.#cancelLook = this.#options.clock.schedule(FRESH_MS, () => {
      this.#cancelLook = undefined;
      void this.#findLost();
    });
  }

  async #findLost(): Promise<void> {
    const { clock, onLost } = this.#options;
    let earned: readonly SpiffeId[] = [];
    try {
      earned = await this.#earned();
      this.#toldAtMs = clock.monotonicMs();
    } catch {
      if (clock.monotonicMs() - this.#toldAtMs < UNTOLD_MS) return this.#lookAgain();
    }
    const lost = [...this.#reliedOn].filter((id) => !earned.includes(id));
    for (const id of lost) {
      this.#reliedOn.delete(id);
      this.#lost.add(id);
    }
    if (lost.length > 0) onLost();
    this.#lookAgain();
  }
}
