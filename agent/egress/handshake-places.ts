/** How long a server that did not prove what it must is not asked again. */
export const REFUSED_MS = 1000;

const MAX_HANDSHAKES = 64;
/** Of those, for one asker. */
const MAX_HANDSHAKES_OF_ONE = MAX_HANDSHAKES / 4;

interface Waiting {
  readonly asker: string;
  readonly enter: (leave: () => void) => void;
}

/** Handshakes with outside servers that are under way at once: so many at most, and a quarter of them for one asker. */
export class HandshakePlaces {
  readonly #takenBy = new Map<string, number>();
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiting>();
  #taken = 0;

  /** Takes a place, which the returned function gives back; undefined where there is none for that asker. */
  tryEnter(asker: string): (() => void) | undefined {
    if (!this.#hasRoomFor(asker)) return undefined;
    this.#count(asker, 1);
    return () => {
      this.#count(asker, -1);
      this.#admitNext();
    };
  }

  /** As `tryEnter`, but waits for a place until `signal` aborts: undefined then. How many wait is for the caller to bound. */
  async enter(asker: string, signal: AbortSignal): Promise<(() => void) | undefined> {
    const leave = signal.aborted ? undefined : this.tryEnter(asker);
    if (leave !== undefined || signal.aborted) return leave;
    const { promise, resolve } = Promise.withResolvers<(() => void) | undefined>();
    const waiting = { asker, enter: resolve };
    this.#waiting.add(waiting);
    const giveUp = (): void => {
      if (this.#waiting.delete(waiting)) resolve(undefined);
    };
    signal.addEventListener('abort', giveUp, { once: true });
    const entered = await promise;
    signal.removeEventListener('abort', giveUp);
    return entered;
  }

  #admitNext(): void {
    for (const waiting of this.#waiting) {
      const leave = this.tryEnter(waiting.asker);
      if (leave === undefined) continue;
      this.#waiting.delete(waiting);
      return waiting.enter(leave);
    }
  }

  #hasRoomFor(asker: string): boolean {
    return this.#taken < MAX_HANDSHAKES && (this.#takenBy.get(asker) ?? 0) < MAX_HANDSHAKES_OF_ONE;
  }

  #count(asker: string, change: 1 | -1): void {
    this.#taken += change;
    const taken = (this.#takenBy.get(asker) ?? 0) + change;
    if (taken === 0) this.#takenBy.delete(asker);
    else this.#takenBy.set(asker, taken);
  }
}
