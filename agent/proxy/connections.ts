import type { StreamFailure } from './byte-stream.ts';
import { FairShare } from './fair-share.ts';

/** On whose account a connection goes. */
export interface Party {
  /** A user of this host, a calling workload, or all who proved nothing. */
  readonly name: string;
  /** The other host that it comes from; undefined for what this host's own programs open, and for plaintext. */
  readonly host?: string;
}

/** The party of all callers that proved nothing. */
export const STRANGERS: Party = { name: 'strangers' };

/** An open connection as the registry sees it. */
export interface OpenConnection {
  readonly party: Party;
  /** Why it has lost its permit, recorded; undefined while it keeps it. */
  reconsider(): StreamFailure | undefined;
  /** Ends it at once; with `close`, the end alone of whoever lost the permit: nothing more comes or goes there. */
  cut(failure: StreamFailure): void;
  /** Ends the other side, in the same turn of the event loop, after all that are cut with it: a thousand programs should not wait for a thousand other ends. */
  close?(failure: StreamFailure): void;
}

const UNJUDGED: StreamFailure = { message: 'It could not be judged again' };

export interface ConnectionLimits {
  readonly max: number;
  /** Of the parties of one other host together. */
  readonly maxPerHost: number;
}

/**
 * The connections that the proxy carries: so many at most, judged again whenever something changes that they were allowed by. However many somebody opens,
 * he leaves places to the others, of all and of those of his host (`FairShare`).
 */
export class OpenConnections {
  readonly #maxPerHost: number;
  readonly #all: FairShare;
  readonly #perHost = new Map<string, FairShare>();
  readonly #open = new Map<OpenConnection, () => void>();
  #round = 0;

  constructor({ max, maxPerHost }: ConnectionLimits) {
    this.#maxPerHost = maxPerHost;
    this.#all = new FairShare(max);
  }

  get size(): number {
    return this.#all.taken;
  }

  /** Takes a place for a connection that is being set up; undefined when there is none for that party. The returned function gives it back, any number of times. */
  tryEnter(party: Party): (() => void) | undefined {
    if (!this.#sharesOf(party).every((share) => share.hasRoomFor(party.name))) return undefined;
    return this.#take(party);
  }

  /** Grows whenever everything is judged again. */
  get round(): number {
    return this.#round;
  }

  /**
   * A connection is open under a permit that was given in round `since`. If everything was judged again since then, while it was being set up, it is judged
   * now. The returned function says that it has ended; undefined when it has lost its permit and was cut.
   */
  add(connection: OpenConnection, since: number): (() => void) | undefined {
    return this.#enter(connection, { since, leave: this.#take(connection.party) });
  }

  /** As `add`, for one that is still being set up and has its place by `tryEnter`. */
  watch(connection: OpenConnection, since: number): (() => void) | undefined {
    return this.#enter(connection, { since, leave: () => undefined });
  }

  /** Judges every connection again and cuts those that lost their permit, and those that cannot be judged. Throws what one of them threw, after all. */
  reconsiderAll(): void {
    this.#round += 1;
    const faults: unknown[] = [];
    const attempt = (work: () => void): void => {
      try {
        work();
      } catch (fault) {
        faults.push(fault);
      }
    };
    const closing: (() => void)[] = [];
    for (const connection of Array.from(this.#open.keys())) {
      let failure: StreamFailure | undefined = UNJUDGED;
      attempt(() => (failure = connection.reconsider()));
      if (failure === undefined) continue;
      this.#remove(connection);
      attempt(() => connection.cut(failure ?? UNJUDGED));
      closing.push(() => connection.close?.(failure ?? UNJUDGED));
    }
    for (const close of closing) attempt(close);
    if (faults.length > 0) throw faults[0];
  }

  /** Ends every connection. */
  cutAll(failure: StreamFailure): void {
    for (const connection of Array.from(this.#open.keys())) this.#cut(connection, failure);
  }

  #enter(
    connection: OpenConnection,
    { since, leave }: { readonly since: number; readonly leave: () => void },
  ): (() => void) | undefined {
    this.#open.set(connection, leave);
    const failure = since === this.#round ? undefined : connection.reconsider();
    if (failure === undefined) return () => this.#remove(connection);
    this.#cut(connection, failure);
    return undefined;
  }

  #cut(connection: OpenConnection, failure: StreamFailure): void {
    this.#remove(connection);
    connection.cut(failure);
    connection.close?.(failure);
  }

  #remove(connection: OpenConnection): void {
    this.#open.get(connection)?.();
    this.#open.delete(connection);
  }

  #take(party: Party): () => void {
    const shares = this.#sharesOf(party);
    const [, ofHost] = shares;
    if (party.host !== undefined && ofHost !== undefined) this.#perHost.set(party.host, ofHost);
    for (const share of shares) share.add(party.name, 1);
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      for (const share of shares) share.add(party.name, -1);
      if (party.host !== undefined && this.#perHost.get(party.host)?.taken === 0)
        this.#perHost.delete(party.host);
    };
  }

  #sharesOf({ host }: Party): readonly FairShare[] {
    if (host === undefined) return [this.#all];
    return [this.#all, this.#perHost.get(host) ?? new FairShare(this.#maxPerHost)];
  }
}
