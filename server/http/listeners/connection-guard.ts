import type { Socket } from 'node:net';
import { addressKey } from '../../../shared/runtime/address-key.ts';
import { PicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { CrowdReport } from '../../../shared/runtime/crowd-report.ts';
import type { CrowdTally } from '../../../shared/runtime/crowd-tally.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import { YieldingQueue } from '../../../shared/runtime/yielding-queue.ts';
import { ConcurrencyLimit } from '../../../shared/runtime/concurrency-limit.ts';
import type { HttpLimits } from '../limits.ts';

/** A request under way, for those who learn more of it than the listener knows. */
export interface GuardedRequest {
  /** The peer has proven to be `actor`: its connection counts as that one's from now on, and no more as its address's. */
  prove(actor: string): void;
  /** Its answer has no end: it may take as long as the client stays. */
  allowEndless(): void;
  /** Calls `listener` once its answer was read or given up; at once if it was already. */
  onOver(listener: () => void): void;
}

interface GuardedConnection {
  readonly socket: Socket;
  /** The key of its address. */
  readonly source: string;
  requests: number;
  isProven: boolean;
  /** Gives back its place among those of its actor. */
  leave: () => void;
  cancelIdle: () => void;
}

/** Why a connection had to go: it had proven nothing, or all places were taken by others that had. */
export type TurnedAway = 'unproven' | 'full';

export interface ConnectionGuardOptions {
  readonly limits: HttpLimits;
  readonly clock: Clock;
  readonly log: Log;
  /** Counts those that are turned away. */
  readonly crowd: CrowdTally<TurnedAway>;
}

/** A session of HTTP/2 shows its socket through a proxy: only what hangs on the socket itself is found by it. */
const CONNECTION = Symbol('guarded connection');
type GuardedSocket = Socket & { [CONNECTION]?: GuardedConnection };

/** What tells that an answer is over. */
interface Closing {
  once(event: 'close', listener: () => void): unknown;
}

/** By what their answers go to. */
const requests = new WeakMap<object, GuardedRequest>();

/** The request whose answer goes to `outgoing`. */
export function guardedRequestOf(outgoing: object): GuardedRequest {
  const request = requests.get(outgoing);
  if (request !== undefined) return request;
  throw new PicketError(
    'internal',
    'connection_unguarded',
    'The request came on a connection that nobody guards',
  );
}

/**
 * Holds every connection of a listener within its bounds: how many there are, how many of one address or actor, how long one may stay without
 * a request under way, and how long an answer may take to be read. The idle time also ends handshakes, request heads and HTTP/2 sessions that never get
 * anywhere. When places run short those go that have proven nothing, the oldest of the address that has the most, so that they keep nobody out.
 */
export class ConnectionGuard {
  readonly #limits: HttpLimits;
  readonly #clock: Clock;
  readonly #perActor: ConcurrencyLimit;
  readonly #connections = new Set<GuardedConnection>();
  readonly #unproven = new YieldingQueue<GuardedConnection>();
  readonly #crowd: CrowdTally<TurnedAway>;
  readonly #report: CrowdReport<TurnedAway>;

  constructor(options: ConnectionGuardOptions) {
    this.#limits = options.limits;
    this.#clock = options.clock;
    this.#crowd = options.crowd;
    this.#report = new CrowdReport({ ...options, event: 'connections_turned_away' });
    this.#perActor = new ConcurrencyLimit(options.limits.maxConnectionsPerActor);
  }

  get size(): number {
    return this.#connections.size;
  }

  /** Takes in a new connection, or destroys it and answers false. */
  admit(socket: Socket): boolean {
    const address = socket.remoteAddress ?? 'local';
    const source = addressKey(address);
    this.#makeRoom(source);
    if (this.#connections.size >= this.#limits.maxConnections) {
      this.#turnedAway('full', address);
      socket.destroy();
      return false;
    }
    const connection: GuardedConnection = {
      socket,
      source,
      requests: 0,
      isProven: false,
      leave: () => undefined,
      cancelIdle: () => undefined,
    };
    (socket as GuardedSocket)[CONNECTION] = connection;
    this.#connections.add(connection);
    this.#unproven.add(source, connection);
    this.#armIdle(connection);
    socket.once('close', () => this.#forget(connection));
    return true;
  }

  /**
   * A request has come in on the socket, or on an HTTP/2 session's; false if it is none of ours. It is under way until its answer is read or given
   * up, which `outgoing` tells by its close.
   */
  beginRequest(socket: Socket, outgoing: Closing): boolean {
    const connection = (socket as GuardedSocket)[CONNECTION];
    if (connection === undefined) return false;
    connection.requests += 1;
    connection.cancelIdle();
    const cancelDeadline = this.#clock.schedule(this.#limits.answerMs, () => connection.socket.destroy());
    const over = new AbortController();
    requests.set(outgoing, {
      prove: (actor) => this.#prove(connection, actor),
      allowEndless: cancelDeadline,
      onOver: (listener) => {
        if (over.signal.aborted) listener();
        else over.signal.addEventListener('abort', listener, { once: true });
      },
    });
    outgoing.once('close', () => {
      cancelDeadline();
      over.abort();
      connection.requests -= 1;
      if (connection.requests === 0 && !connection.socket.destroyed) this.#armIdle(connection);
    });
    return true;
  }

  /** Ends every connection on which no request is under way. */
  closeIdle(): void {
    for (const connection of this.#connections) if (connection.requests === 0) connection.socket.destroy();
  }

  /** Ends every connection. */
  closeAll(): void {
    for (const { socket } of this.#connections) socket.destroy();
  }

  #makeRoom(source: string): void {
    const { maxConnections, maxUnprovenConnections, maxConnectionsPerAddress } = this.#limits;
    const unproven = this.#unproven;
    if (unproven.countOf(source) >= maxConnectionsPerAddress)
      // An honest newcomer behind the same address asks soon, and is done soon.
      this.#putOut(
        unproven.findOldestOf(source, ({ requests: under }) => under === 0) ?? unproven.findOldestOf(source),
      );
    else if (unproven.size >= maxUnprovenConnections || this.#connections.size >= maxConnections)
      this.#putOut(unproven.findOldestOfLargest());
  }

  #putOut(connection: GuardedConnection | undefined): void {
    if (connection === undefined) return;
    this.#turnedAway('unproven', connection.socket.remoteAddress ?? connection.source);
    this.#forget(connection);
    connection.socket.destroy();
  }

  #turnedAway(why: TurnedAway, address: string): void {
    this.#crowd.note(why);
    this.#report.note(why, address);
  }

  /** An actor with too many connections goes on as its address: it may not take the places of others. */
  #prove(connection: GuardedConnection, actor: string): void {
    if (connection.isProven || !this.#connections.has(connection)) return;
    const leave = this.#perActor.tryEnter(actor);
    if (leave === undefined) return;
    connection.leave = leave;
    connection.isProven = true;
    this.#unproven.delete(connection.source, connection);
  }

  #forget(connection: GuardedConnection): void {
    connection.cancelIdle();
    connection.leave();
    this.#connections.delete(connection);
    this.#unproven.delete(connection.source, connection);
  }

  #armIdle(connection: GuardedConnection): void {
    connection.cancelIdle();
    connection.cancelIdle = this.#clock.schedule(this.#limits.idleMs, () => connection.socket.destroy());
  }
}
