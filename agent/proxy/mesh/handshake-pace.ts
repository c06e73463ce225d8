/** As many as Bun does a step of in one turn. */
export const HANDSHAKES_AT_ONCE = 5;

/**
 * Begins TLS handshakes in the order in which they were asked for, one for each turn of the event loop. Bun's sockets do a step of at most five handshakes
 * in a turn, and of those that wait beyond them the last come is served first: under a steady stream of new handshakes the first of them would
 * wait until the stream ends. Begun no faster than that, their steps stay within the five of each turn. Of a crowd five begin together, and
 * the next five as many turns later: what does the same work at the same time costs less than one after another.
 */
export class HandshakePace {
  readonly #waiting = new Set<() => void>();
  /** Turns that must pass for those that have begun. */
  #owedTurns = 0;

  /** Calls `begin` once: at once if nobody waits and fewer than five turns are owed, else in a turn to come, unless the returned function was called before. */
  run(begin: () => void): () => void {
    if (this.#waiting.size === 0 && this.#owedTurns < HANDSHAKES_AT_ONCE) {
      this.#take(begin);
      return () => undefined;
    }
    this.#waiting.add(begin);
    return () => void this.#waiting.delete(begin);
  }

  #take(begin: () => void): void {
    this.#owedTurns += 1;
    if (this.#owedTurns === 1) setImmediate(() => this.#turnPassed());
    begin();
  }

  #turnPassed(): void {
    this.#owedTurns -= 1;
    if (this.#owedTurns > 0) setImmediate(() => this.#turnPassed());
    else this.#beginWaiting();
  }

  #beginWaiting(): void {
    for (const begin of this.#waiting) {
      if (this.#owedTurns === HANDSHAKES_AT_ONCE) return;
      this.#waiting.delete(begin);
      this.#take(begin);
    }
  }
}
