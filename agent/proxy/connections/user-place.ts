import type { OpenConnections, Party } from './connections.ts';

/** The place of a connection, taken once it is known which user's it is. */
export class UserPlace {
  readonly #connections: OpenConnections;
  #party: Party = { name: 'uid unknown' };
  #leave: (() => void) | undefined;

  constructor(connections: OpenConnections) {
    this.#connections = connections;
  }

  get party(): Party {
    return this.#party;
  }

  get isTaken(): boolean {
    return this.#leave !== undefined;
  }

  /** Whether there is a place for that user, or for what has no owner any more. */
  enter(uid: number | null): boolean {
    if (this.isTaken) return true;
    if (uid !== null) this.#party = { name: `uid ${uid}` };
    this.#leave = this.#connections.tryEnter(this.#party);
    return this.isTaken;
  }

  leave(): void {
    this.#leave?.();
  }
}
