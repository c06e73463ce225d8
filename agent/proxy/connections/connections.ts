import type { StreamFailure } from '../streams/byte-stream.ts';
import { FairShare } from './fair-share.ts';
import type { MayGoOn } from './piecewise.ts';
import { UnjudgedStreams, type CarriedStreams } from './unjudged-streams.ts';

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
  /** Why it has lost its permit, with all that it carries, recorded; undefined while it keeps it. */
  reconsider(): StreamFailure | undefined;
  /** What it carries that has permits of its own beside this one, if anything. */
  readonly streams?: CarriedStreams;
  /** Ends it at once; with `close`, the end alone of whoever lost the permit: nothing more comes or goes there. */
  cut(failure: StreamFailure): void;
  /** Tells the client, where its protocol has words for it, to make its next request on another connection. Called once. */
  retire?(): void;
  /** Ends the other side, in the same turn of the event loop, after all that are cut with it: a thousand programs should not wait for a thousand other ends. */
  close?(failure: StreamFailure): void;
}

/** What has changed: of a policy streams stand on their own, of everything else they stand and fall with their connection. */
export type Change = 'policy' | 'circumstances';

/** What the heads of requests under way may take, of all connections of a process, in bytes as they are read; in memory it is some three times as much. */
const MAX_HEAD_BYTES = 256 * 1024 * 1024;

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
  /** Bytes of the heads of requests that are kept to be judged again, where one connection has many. */
  readonly heads = new FairShare(MAX_HEAD_BYTES);
  readonly #open = new Map<OpenConnection, () => void>();
  #round = 0;
  /** Those who are still to have their turn in this pass. Who comes meanwhile has it in the next one: else many newcomers would keep the old ones from it for ever. */
  #turn: ArrayIterator<OpenConnection> | undefined;
  /** Of whom all waits for its streams to be judged, and of whom nothing does. */
  readonly #unjudged = this.#openQueue({ standStill: true });
  readonly #timed = this.#openQueue({ standStill: false });
  /** What was thrown where others had to have their turn all the same. */
  #faults: unknown[] = [];
  #isRetiring = false;

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

  /**
   * Judges every connection again and cuts those that lost their permit, and those that cannot be judged. Where the policy changed their streams are judged too, as long as `mayGoOn`
   * says; nothing passes on the others before `reconsiderRest` has judged them. Returns whether none is left. Throws what one of them threw, after all.
   */
  reconsiderAll(mayGoOn: MayGoOn = always, change: Change = 'policy'): boolean {
    this.#round += 1;
    const closing: (() => void)[] = [];
    for (const connection of Array.from(this.#open.keys())) {
      const failure = this.#judge(connection, change === 'policy' ? this.#unjudged : undefined);
      if (failure === undefined) continue;
      this.#remove(connection);
      this.#attempt(() => connection.cut(failure));
      closing.push(() => connection.close?.(failure));
    }
    for (const close of closing) this.#attempt(close);
    return this.reconsiderRest(mayGoOn);
  }

  /** Goes on with what `reconsiderAll` has left. */
  reconsiderRest(mayGoOn: MayGoOn): boolean {
    const isDone = this.#unjudged.goOn(mayGoOn);
    this.#throwFault();
    return isDone;
  }

  /**
   * Judges again those whose turn it is and their streams, until `mayGoOn` says no or all had their turn who were open when the pass began: the next call goes on behind the last
   * one, or begins anew. Nothing stands still meanwhile. Throws what one of them threw, after it was cut.
   */
  reconsiderNext(mayGoOn: MayGoOn): void {
    this.#turn ??= Array.from(this.#open.keys()).values();
    while (mayGoOn()) {
      if (!this.#timed.goOn(mayGoOn)) break;
      const next = this.#turn.next();
      if (next.done === true) {
        this.#turn = undefined;
        break;
      }
      if (this.#open.has(next.value)) this.#reconsiderOne(next.value);
    }
    this.#throwFault();
  }

  /** The agent goes: who can be told to come again on another connection is told, now and when he is added later. */
  retireAll(): void {
    this.#isRetiring = true;
    for (const connection of Array.from(this.#open.keys())) connection.retire?.();
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
    if (failure === undefined) {
      if (this.#isRetiring) connection.retire?.();
      return () => this.#remove(connection);
    }
    this.#cut(connection, failure);
    return undefined;
  }

  #attempt(work: () => void): void {
    try {
      work();
    } catch (fault) {
      this.#faults.push(fault);
    }
  }

  #reconsiderOne(connection: OpenConnection): void {
    const failure = this.#judge(connection, this.#timed);
    if (failure !== undefined) this.#attempt(() => this.#cut(connection, failure));
  }

  /** Why it is to be cut; its streams are left to `queue`. */
  #judge(
    connection: OpenConnection,
    queue: UnjudgedStreams<OpenConnection> | undefined,
  ): StreamFailure | undefined {
    try {
      const failure = connection.reconsider();
      if (failure === undefined && connection.streams) queue?.begin(connection, connection.streams);
      return failure;
    } catch (fault) {
      this.#faults.push(fault);
      return UNJUDGED;
    }
  }

  #openQueue({ standStill }: { readonly standStill: boolean }): UnjudgedStreams<OpenConnection> {
    const onFault = (connection: OpenConnection, fault: unknown): void => {
      this.#faults.push(fault);
      this.#attempt(() => this.#cut(connection, UNJUDGED));
    };
    return new UnjudgedStreams({ onFault, standStill });
  }

  #throwFault(): void {
    const faults = this.#faults;
    this.#faults = [];
    if (faults.length > 0) throw faults[0];
  }

  #cut(connection: OpenConnection, failure: StreamFailure): void {
    this.#remove(connection);
    connection.cut(failure);
    connection.close?.(failure);
  }

  #remove(connection: OpenConnection): void {
    this.#open.get(connection)?.();
    this.#open.delete(connection);
    this.#unjudged.forget(connection);
    this.#timed.forget(connection);
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

function always(): boolean {
  return true;
}
