/** A value that changes and tells who watches it. Readers only. */
export interface Watched<T> {
  readonly current: T;
  /** Calls `listener` after each change, in the order of watching; the returned function ends it. */
  watch(listener: (value: T, previous: T) => void): () => void;
}

/** A watched value with its owner's side: `set` replaces it whole, so that readers never see half a change. */
export class WatchedValue<T> implements Watched<T> {
  #current: T;
  readonly #listeners = new Set<(value: T, previous: T) => void>();

  constructor(initial: T) {
    this.#current = initial;
  }

  get current(): T {
    return this.#current;
  }

  /** Replaces the value and tells every listener, even if it equals the old one. */
  set(value: T): void {
    const previous = this.#current;
    this.#current = value;
    for (const listener of Array.from(this.#listeners)) listener(value, previous);
  }

  watch(listener: (value: T, previous: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
