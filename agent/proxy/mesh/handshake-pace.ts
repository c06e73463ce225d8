/**
 * Begins TLS handshakes in the order in which they were asked for, one in each turn of the event loop. Bun's sockets do a step of at most five handshakes
 * in a turn, and of those that wait beyond them the last come is served first: under a steady stream of new handshakes the first of them would
 * wait until the stream ends. Begun one by one, their steps stay within the five.
 */
export class HandshakePace {
  readonly #waiting = new Set<() => void>();
  #isTurnTaken = false;

  /** Calls `begin` once: at once if this turn is free, else in a turn to come, unless the returned function was called before. */
  run(begin: () => void): () => void {
    if (!this.#isTurnTaken) {
      this.#take(begin);
      return () => undefined;
    }
    this.#waiting.add(begin);
    return () => void this.#waiting.delete(begin);
  }

  #take(begin: () => void): void {
    this.#isTurnTaken = true;
    setImmediate(() => this.#nextTurn());
    begin();
  }

  #nextTurn(): void {
    this.#isTurnTaken = false;
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waiting.delete(next);
    this.#take(next);
  }
}
