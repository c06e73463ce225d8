import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { describeError, PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { SingleFlight } from '../../shared/runtime/single-flight.ts';
import type { HeldSvid } from '../identity/identity.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import { connectToServer, type Dial, type ServerConnection } from './connection.ts';

/** Where a server answers: a name or an address, and a port. */
export interface ServerEndpoint {
  readonly host: string;
  readonly port: number;
}

export interface ServerLinkOptions {
  /** Tried in order, beginning with the one that answered last. */
  readonly servers: readonly ServerEndpoint[];
  readonly dial: Dial;
  /** Judges a server's chain under the bundle of this moment; throws when it is not trusted. */
  readonly verify: (chain: readonly Uint8Array[]) => void;
  /** What the agent shows at the next connection. */
  readonly credentials: () => HeldSvid | undefined;
  readonly onServerTime?: (serverTimeMs: number) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** The conversation with the cluster: one connection at a time, to whichever server answers. */
export class ServerLink {
  readonly #options: ServerLinkOptions;
  readonly #flights = new SingleFlight<'connect', ServerConnection>();
  #connection: ServerConnection | undefined;
  #preferred = 0;
  #isClosed = false;

  constructor(options: ServerLinkOptions) {
    this.#options = options;
  }

  /** Whether there is a connection at this moment. */
  get isConnected(): boolean {
    return this.#connection?.isOpen === true;
  }

  /** The open connection, or a new one. Throws `unavailable`, reason `server_unreachable`, when no server answers, or `unauthenticated` when none is trusted. */
  async connection(): Promise<ServerConnection> {
    if (this.#connection?.isOpen === true) return this.#connection;
    return await this.#flights.run('connect', async () => await this.#connect());
  }

  /** Ends the connection once its requests are done: the next one shows the credentials of that moment, under the bundle of that moment. */
  reconnect(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close();
  }

  /** Ends the connection at once and opens no other. */
  close(): void {
    this.#isClosed = true;
    this.#connection?.destroy();
  }

  async #connect(): Promise<ServerConnection> {
    const { servers, log } = this.#options;
    const failures: unknown[] = [];
    for (let offset = 0; offset < servers.length; offset++) {
      const index = (this.#preferred + offset) % servers.length;
      const server = servers[index] as ServerEndpoint;
      const connection = await this.#connectTo(server, failures);
      if (connection === undefined) continue;
      if (this.#isClosed) {
        connection.destroy();
        throw closed();
      }
      this.#preferred = index;
      this.#connection = connection;
      log.info('server_connected', { server: `${server.host}:${server.port}` });
      return connection;
    }
    throw worstOf(failures);
  }

  async #connectTo(server: ServerEndpoint, failures: unknown[]): Promise<ServerConnection | undefined> {
    const { credentials, log } = this.#options;
    for (const destination of await resolveServer(server, failures)) {
      if (this.#isClosed) throw closed();
      try {
        return await connectToServer({ ...this.#options, destination, credentials: credentials() });
      } catch (error) {
        failures.push(error);
        log.warn('server_not_connected', { server: `${server.host}:${server.port}`, ...destination, error });
      }
    }
    return undefined;
  }
}

async function resolveServer(server: ServerEndpoint, failures: unknown[]): Promise<SocketAddress[]> {
  if (isIP(server.host) !== 0) return [{ address: server.host, port: server.port }];
  try {
    const found = await lookup(server.host, { all: true });
    return found.map(({ address }) => ({ address, port: server.port }));
  } catch (cause) {
    failures.push(cause);
    return [];
  }
}

/** A server that is there but not trusted is worth more attention than one that is not there. */
function worstOf(failures: readonly unknown[]): PicketError {
  const ours = failures.filter((failure) => failure instanceof PicketError);
  const untrusted = ours.find((failure) => failure.code === 'unauthenticated');
  if (untrusted !== undefined) return untrusted;
  const why = failures.map(describeError).join('; ');
  return new PicketError('unavailable', 'server_unreachable', `No server answers: ${why}`);
}

function closed(): PicketError {
  return new PicketError('unavailable', 'link_closed', 'The agent is stopping');
}
