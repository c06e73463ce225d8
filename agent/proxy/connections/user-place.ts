import type { InNamespace } from '../../native/network-namespace.ts';
import type { UserParties } from '../../subordinate-users/subordinate-users.ts';
import type { OpenConnections, Party } from './connections.ts';

/** Whose users they are, and which belong together. */
export interface UserPlaceOptions extends InNamespace {
  readonly userParties: UserParties;
}

/** The place of a connection, taken once it is known which user's it is. */
export class UserPlace {
  readonly #connections: OpenConnections;
  readonly #options: UserPlaceOptions;
  #party: Party = { name: 'uid unknown' };
  #leave: (() => void) | undefined;

  constructor(connections: OpenConnections, options: UserPlaceOptions) {
    this.#connections = connections;
    this.#options = options;
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
    if (uid !== null) this.#party = { name: partyOfUser(uid, this.#options) };
    this.#leave = this.#connections.tryEnter(this.#party);
    return this.isTaken;
  }

  leave(): void {
    this.#leave?.();
  }
}

/** The name of the party of a user. Who is root in another namespace can be any user there: it is one party. */
export function partyOfUser(uid: number, { namespace, userParties }: UserPlaceOptions): string {
  return namespace === undefined ? userParties.partyOf(uid) : `namespace ${namespace.name}`;
}
