import type { Clock } from '../../../shared/runtime/clock.ts';

/** What deciding takes of one turn of the event loop, for all connections together, in milliseconds: then come sockets and timers. */
const TURN_MS = 5;
/** And what one connection takes of it before others of its party have theirs: some requests are dear to decide. */
const SHARE_MS = 1;
/** While nobody waits it is not looked when a turn ends, which would cost every request: what is used is forgotten after so long. */
const FORGOTTEN_MS = 2 * TURN_MS;

/**
 * The time in which requests are decided, of one process. Where a turn of the event loop has no more of it, connections wait for a next one, and the parties take turns: whoever
 * has many connections waits for himself, and somebody with one request waits for one share of every other party.
 */
export class FairTurns {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #inNextTurn: (work: () => void) => void;
  /** Those of each party in the order of their coming; the party whose turn it is stands first. */
  readonly #waiting = new Map<string, Set<() => void>>();
  #isNextAhead = false;
  #usedMs = 0;
  #sinceMs = -Infinity;

  constructor(
    clock: Pick<Clock, 'monotonicMs'>,
    inNextTurn: (work: () => void) => void = (work) => void setImmediate(work),
  ) {
    this.#clock = clock;
    this.#inNextTurn = inNextTurn;
  }

  /** The turns of one connection of a party. `goOn` is called when one has come that it waited for, perhaps after its end, and must not throw. */
  join(party: string, goOn: () => void): ConnectionTurns {
    return new ConnectionTurns(this, { party, goOn });
  }

  nowMs(): number {
    return this.#clock.monotonicMs();
  }

  /** Whether whoever has not waited may begin. */
  hasTime(nowMs: number): boolean {
    if (!this.#isNextAhead && nowMs - this.#sinceMs >= FORGOTTEN_MS) this.#renew(nowMs);
    return this.#usedMs < TURN_MS;
  }

  use(ms: number): void {
    this.#usedMs += ms;
  }

  wait(party: string, goOn: () => void): void {
    const waiting = this.#waiting.get(party);
    if (waiting === undefined) this.#waiting.set(party, new Set([goOn]));
    else waiting.add(goOn);
    this.#callNext();
  }

  #callNext(): void {
    if (this.#isNextAhead) return;
    this.#isNextAhead = true;
    this.#inNextTurn(() => this.#takeTurn());
  }

  #takeTurn(): void {
    this.#renew(this.nowMs());
    try {
      while (this.#usedMs < TURN_MS && this.#waiting.size > 0) this.#takeNext()?.();
    } finally {
      this.#isNextAhead = false;
      if (this.#waiting.size > 0) this.#callNext();
    }
  }

  /** Its party is the last one from then on. */
  #takeNext(): (() => void) | undefined {
    for (const [party, waiting] of this.#waiting) {
      this.#waiting.delete(party);
      const [goOn] = waiting;
      if (goOn !== undefined) waiting.delete(goOn);
      if (waiting.size > 0) this.#waiting.set(party, waiting);
      return goOn;
    }
    return undefined;
  }

  #renew(nowMs: number): void {
    this.#usedMs = 0;
    this.#sinceMs = nowMs;
  }
}

/** The turns of one connection (`FairTurns`). */
export class ConnectionTurns {
  readonly #turns: FairTurns;
  readonly #party: string;
  readonly #goOn: () => void;
  #isWaiting = false;
  #beganMs = -Infinity;

  constructor(turns: FairTurns, { party, goOn }: { readonly party: string; readonly goOn: () => void }) {
    this.#turns = turns;
    this.#party = party;
    this.#goOn = () => {
      this.#isWaiting = false;
      goOn();
    };
  }

  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** Requests are to be read. False: not now; the connection waits for its turn. */
  begin(): boolean {
    const nowMs = this.#turns.nowMs();
    if (!this.#isWaiting && this.#turns.hasTime(nowMs)) {
      this.#beganMs = nowMs;
      return true;
    }
    this.wait();
    return false;
  }

  /** Whether it has had its share since it began. */
  get isOver(): boolean {
    return this.#turns.nowMs() - this.#beganMs >= SHARE_MS;
  }

  /** What was begun, if anything was, is at its end. */
  end(): void {
    if (this.#beganMs === -Infinity) return;
    this.#turns.use(this.#turns.nowMs() - this.#beganMs);
    this.#beganMs = -Infinity;
  }

  /** Lets others have theirs, and waits for its next one. */
  wait(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.#turns.wait(this.#party, this.#goOn);
  }
}
