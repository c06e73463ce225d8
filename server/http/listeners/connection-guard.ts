import type { Socket } from 'node:net';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { ConcurrencyLimit } from '../../../shared/runtime/concurrency-limit.ts';
import { addressKey, type HttpLimits } from '../limits.ts';

interface GuardedConnection {
  requests: number;
  cancelIdle: () => void;
}

/**
 * Holds every connection of a listener within its bounds: how many there are, how many of one address, and how long one may stay without
 * a request under way. The last bound also ends handshakes, request heads and HTTP/2 sessions that never get anywhere.
 */
export class ConnectionGuard {
  readonly #limits: HttpLimits;
  readonly #clock: Clock;
  readonly #perAddress: ConcurrencyLimit;
  readonly #connections = new Map<Socket, GuardedConnection>();

  constructor(options: { readonly limits: HttpLimits; readonly clock: Clock }) {
    this.#limits = options.limits;
    this.#clock = options.clock;
    this.#perAddress = new ConcurrencyLimit(options.limits.maxConnectionsPerAddress);
  }

  get size(): number {
    return this.#connections.size;
  }

  /** Takes in a new connection, or destroys it and answers false. */
  admit(socket: Socket): boolean {
    const leave =
      this.#connections.size < this.#limits.maxConnections
        ? this.#perAddress.tryEnter(addressKey(socket.remoteAddress ?? 'local'))
        : undefined;
    if (leave === undefined) {
      socket.destroy();
      return false;
    }
    const connection: GuardedConnection = { requests: 0, cancelIdle: () => undefined };
    this.#connections.set(socket, connection);
    this.#armIdle(socket, connection);
    socket.once('close', () => {
      connection.cancelIdle();
      this.#connections.delete(socket);
      leave();
    });
    return true;
  }

  /** A request has come in on the socket; the returned function says that its answer is finished or given up. */
  beginRequest(socket: Socket): () => void {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return () => undefined;
    connection.requests += 1;
    connection.cancelIdle();
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      connection.requests -= 1;
      if (connection.requests === 0 && !socket.destroyed) this.#armIdle(socket, connection);
    };
  }

  /** Ends every connection on which no request is under way. */
  closeIdle(): void {
    for (const [socket, { requests }] of this.#connections) if (requests === 0) socket.destroy();
  }

  /** Ends every connection. */
  closeAll(): void {
    for (const socket of this.#connections.keys()) socket.destroy();
  }

  #armIdle(socket: Socket, connection: GuardedConnection): void {
    connection.cancelIdle = this.#clock.schedule(this.#limits.idleMs, () => socket.destroy());
  }
}
