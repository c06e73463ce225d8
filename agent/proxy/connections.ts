import type { StreamFailure } from './byte-stream.ts';

/** An open connection as the registry sees it. */
export interface OpenConnection {
  /** Whether its caller proved nothing. */
  readonly isStranger: boolean;
  /** Why it has lost its permit, recorded; undefined while it keeps it. */
  reconsider(): StreamFailure | undefined;
  /** Ends it at once. */
  cut(failure: StreamFailure): void;
}

/** What part of all places callers may take that proved nothing: whoever floods the host without an identity leaves the others theirs. */
const STRANGERS_PART = 1 / 2;

/** The connections that the proxy carries: so many at most, judged again whenever something changes that they were allowed by. */
export class OpenConnections {
  readonly #max: number;
  readonly #open = new Set<OpenConnection>();
  #pending = 0;
  #round = 0;
  /** Pending and open. */
  #strangers = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#open.size + this.#pending;
  }

  /** Takes a place for a connection that is being set up; undefined when there is none. The returned function gives it back, any number of times. */
  tryEnter({ isStranger }: Pick<OpenConnection, 'isStranger'>): (() => void) | undefined {
    if (this.size >= this.#max) return undefined;
    if (isStranger && this.#strangers >= Math.ceil(this.#max * STRANGERS_PART)) return undefined;
    this.#pending += 1;
    if (isStranger) this.#strangers += 1;
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      this.#pending -= 1;
      if (isStranger) this.#strangers -= 1;
    };
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
    this.#open.add(connection);
    if (connection.isStranger) this.#strangers += 1;
    const failure = since === this.#round ? undefined : connection.reconsider();
    if (failure === undefined) return () => this.#remove(connection);
    this.#cut(connection, failure);
    return undefined;
  }

  /** Judges every connection again and cuts those that lost their permit. */
  reconsiderAll(): void {
    this.#round += 1;
    for (const connection of Array.from(this.#open)) {
      const failure = connection.reconsider();
      if (failure !== undefined) this.#cut(connection, failure);
    }
  }

  /** Ends every connection. */
  cutAll(failure: StreamFailure): void {
    for (const connection of Array.from(this.#open)) this.#cut(connection, failure);
  }

  #cut(connection: OpenConnection, failure: StreamFailure): void {
    this.#remove(connection);
    connection.cut(failure);
  }

  #remove(connection: OpenConnection): void {
    if (this.#open.delete(connection) && connection.isStranger) this.#strangers -= 1;
  }
}
