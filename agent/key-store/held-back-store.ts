import type { SealedStore } from './sealed-store.ts';

/**
 * A store of which this process may stop being the writer. While another process takes over, nothing is written: what would be is kept in memory, to be written if
 * that comes to nothing, and thrown away if it does come to be: the other process is the writer then.
 */
export class HeldBackStore implements SealedStore {
  readonly #store: SealedStore;
  readonly #running = new Set<Promise<void>>();
  /** By name; undefined: deleted. */
  #heldBack: Map<string, Uint8Array | undefined> | undefined;
  #isGivenAway = false;

  constructor(store: SealedStore) {
    this.#store = store;
  }

  /** Whether something was to be written since `holdBack`. */
  get hasHeldBack(): boolean {
    return this.#heldBack !== undefined && this.#heldBack.size > 0;
  }

  /** Writes nothing from now on; resolves once all that was begun is written, or has failed. */
  async holdBack(): Promise<void> {
    this.#heldBack ??= new Map();
    await Promise.allSettled(this.#running);
  }

  /** Is the writer again: writes what was held back. Rejects like `write`; what was not written then is held back no more. */
  async takeBack(): Promise<void> {
    const heldBack = this.#heldBack ?? new Map<string, Uint8Array | undefined>();
    this.#heldBack = undefined;
    for (const [name, value] of heldBack)
      await (value === undefined ? this.#store.delete(name) : this.#store.write(name, value));
  }

  /** Another process is the writer for good: reading tells what that wrote. */
  giveAway(): void {
    this.#isGivenAway = true;
    this.#heldBack = undefined;
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    return this.#heldBack?.has(name) === true ? this.#heldBack.get(name) : await this.#store.read(name);
  }

  async write(name: string, value: Uint8Array): Promise<void> {
    await this.#change(name, value, async () => await this.#store.write(name, value));
  }

  async delete(name: string): Promise<void> {
    await this.#change(name, undefined, async () => await this.#store.delete(name));
  }

  async #change(name: string, value: Uint8Array | undefined, apply: () => Promise<void>): Promise<void> {
    if (this.#isGivenAway) return;
    if (this.#heldBack !== undefined) {
      this.#heldBack.set(name, value);
      return;
    }
    const running = apply();
    this.#running.add(running);
    try {
      await running;
    } finally {
      this.#running.delete(running);
    }
  }
}
