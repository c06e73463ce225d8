/**
 * Joins calls that ask the same: what is asked while a look is under way is answered by one more, which begins after it. So no answer is older than its
 * question, and a thousand questions at once cost two looks.
 */
export class SharedLooks<T> {
  readonly #running = new Map<string, Promise<T>>();
  readonly #next = new Map<string, Promise<T>>();

  /** What `look` says, which is called now or after the one that runs for the same key. */
  async ask(key: string, look: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running === undefined) return await this.#start(key, look);
    const next = this.#next.get(key) ?? this.#startAfter(running, { key, look });
    this.#next.set(key, next);
    return await next;
  }

  async #startAfter(
    running: Promise<T>,
    { key, look }: { readonly key: string; readonly look: () => Promise<T> },
  ): Promise<T> {
    await running.catch(() => undefined);
    this.#next.delete(key);
    return await this.#start(key, look);
  }

  async #start(key: string, look: () => Promise<T>): Promise<T> {
    const started = look();
    this.#running.set(key, started);
    try {
      return await started;
    } finally {
      if (this.#running.get(key) === started) this.#running.delete(key);
    }
  }
}
