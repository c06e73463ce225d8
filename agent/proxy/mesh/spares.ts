import type { Clock } from '../../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { HeldSvid } from '../../identity/identity.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import { FairShare } from '../connections/fair-share.ts';

export interface SpareLimits {
  /** Connections that stand ready for one key; 0: none at all. */
  readonly maxSparesPerKey: number;
  /** Spares of all keys together, those that are being set up included. One calling workload leaves others theirs. */
  readonly maxSpares: number;
}

/** What a spare is for: the key of the pool, and what it was made of. */
export interface SpareRoute {
  readonly key: string;
  /** As it called last, without its key; its certificate may have been renewed since. */
  readonly caller: Pick<HeldSvid, 'spiffeId' | 'chainPem'>;
  readonly target: SpiffeId;
  /** Where the other agent listens. */
  readonly at: SocketAddress;
}

/** What becomes of spares: it stands ready, an opening took it, it ended without use, or it did not come about. */
export type SpareEvent = 'made' | 'taken' | 'unused' | 'failed';

export interface SparesOptions<C> {
  readonly limits: SpareLimits;
  readonly clock: Clock;
  /** How many connections of the key wait for their next use; `Infinity` where there is no room for one more. */
  readonly countIdle: (key: string) => number;
  /** A connection that is authenticated and usable; undefined where there is none to be had now. It never rejects. */
  readonly connect: (route: SpareRoute) => Promise<C | undefined>;
  /** Puts it where openings find it, or ends it if it is not wanted any more. */
  readonly keep: (key: string, connection: C) => void;
  readonly onEvent: (what: SpareEvent) => void;
}

interface Use {
  route: SpareRoute;
  /** When the last `BUSY_USES` openings were accepted, by the monotonic clock. */
  readonly acceptedMs: number[];
  making: number;
  restsUntilMs: number;
}

/** A key is busy while its last three openings are younger than a minute: less is not worth a connection. */
const BUSY_USES = 3;
const BUSY_MS = 60_000;
/** A host that takes no spare, or sends one away, may have no place for it: so long it is not asked again. */
const REST_MS = 30_000;
/** Keys that are looked at; beyond them the one that was used longest ago is forgotten. */
const MAX_ROUTES = 1024;
/** Set up at once, to all hosts: after a renewal of everything spares come one after another. */
const MAX_MAKING = 8;

/**
 * Keeps connections ready for keys that are busy, so that the next opening waits for no handshake: when others hold what the pool had, and after a renewal
 * or a change of trust has retired it. They are made behind the openings that call for them, and only by them: a key without traffic gets none, and what
 * stands ready ends as every idle connection does.
 */
export class Spares<C> {
  readonly #options: SparesOptions<C>;
  readonly #share: FairShare;
  /** The key used last stands last. */
  readonly #uses = new Map<string, Use>();
  /** Those that stand ready and were never used. */
  readonly #ready = new Map<C, Use>();
  /** Keys that wait until fewer are being set up. */
  readonly #behind = new Set<Use>();
  #making = 0;
  #isStopped = false;

  constructor(options: SparesOptions<C>) {
    this.#options = options;
    this.#share = new FairShare(options.limits.maxSpares);
    this.#isStopped = options.limits.maxSparesPerKey === 0;
  }

  /** An opening of the route was accepted. */
  used(route: SpareRoute): void {
    if (this.#isStopped) return;
    const use = this.#uses.get(route.key) ?? { route, acceptedMs: [], making: 0, restsUntilMs: -Infinity };
    use.route = route;
    use.acceptedMs.push(this.#nowMs());
    if (use.acceptedMs.length > BUSY_USES) use.acceptedMs.shift();
    this.#uses.delete(route.key);
    this.#uses.set(route.key, use);
    const [oldest] = this.#uses.keys();
    if (this.#uses.size > MAX_ROUTES && oldest !== undefined) this.#uses.delete(oldest);
    this.#fill(use);
  }

  /** What stood ready was retired, for certificates or trust have changed: busy keys get theirs anew. */
  refill(): void {
    for (const use of this.#uses.values()) this.#fill(use);
  }

  /** A connection is used, or retired by us for a reason that says nothing of the other host. Harmless when it is no spare. */
  taken(connection: C, why: 'taken' | 'unused'): void {
    const use = this.#ready.get(connection);
    if (use === undefined) return;
    this.#ready.delete(connection);
    this.#share.add(partyOf(use), -1);
    this.#options.onEvent(why);
  }

  /** A connection has ended. If it was never used, the other host wanted it away or nobody needed it: its key gets none for a while. */
  gone(connection: C): void {
    const use = this.#ready.get(connection);
    if (use === undefined) return;
    use.restsUntilMs = this.#nowMs() + REST_MS;
    this.taken(connection, 'unused');
  }

  /** Makes none from now on. */
  stop(): void {
    this.#isStopped = true;
    this.#uses.clear();
    this.#behind.clear();
  }

  #fill(use: Use): void {
    while (this.#isWanted(use)) {
      if (this.#making >= MAX_MAKING) return void this.#behind.add(use);
      void this.#make(use);
    }
  }

  #isWanted(use: Use): boolean {
    const { limits, countIdle } = this.#options;
    return (
      !this.#isStopped &&
      this.#isBusy(use) &&
      countIdle(use.route.key) + use.making < limits.maxSparesPerKey &&
      this.#share.hasRoomFor(partyOf(use))
    );
  }

  #isBusy({ acceptedMs, restsUntilMs }: Use): boolean {
    const nowMs = this.#nowMs();
    const [first] = acceptedMs;
    return (
      nowMs >= restsUntilMs &&
      acceptedMs.length === BUSY_USES &&
      first !== undefined &&
      nowMs - first < BUSY_MS
    );
  }

  async #make(use: Use): Promise<void> {
    const { route } = use;
    const { connect, keep, onEvent } = this.#options;
    this.#count(use, 1);
    const connection = await connect(route);
    this.#count(use, -1);
    if (connection === undefined) {
      use.restsUntilMs = this.#nowMs() + REST_MS;
      onEvent('failed');
    } else {
      this.#share.add(partyOf(use), 1);
      this.#ready.set(connection, use);
      onEvent('made');
      keep(route.key, connection);
    }
    const [next] = this.#behind;
    if (next === undefined) return;
    this.#behind.delete(next);
    this.#fill(next);
  }

  /** One more, or one fewer, is being set up. */
  #count(use: Use, change: 1 | -1): void {
    use.making += change;
    this.#making += change;
    this.#share.add(partyOf(use), change);
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs();
  }
}

function partyOf({ route }: Use): string {
  return route.caller.spiffeId;
}
