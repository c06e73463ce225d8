import type { SealedStore } from './sealed-store.ts';

/** A store for tests and for agents that keep nothing: it forgets everything when the process ends. */
export class MemoryStore implements SealedStore {
  readonly #values = new Map<string, Uint8Array>();

  async read(name: string): Promise<Uint8Array | undefined> {
    const value = this.#values.get(name);
    return value === undefined ? undefined : new Uint8Array(value);
  }

  async write(name: string, value: Uint8Array): Promise<void> {
    this.#values.set(name, new Uint8Array(value));
  }

  async delete(name: string): Promise<void> {
    this.#values.delete(name);
  }
}
