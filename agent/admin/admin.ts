import { getRequestListener } from '@hono/node-server';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Socket } from 'node:net';
import type { Clock } from '../../shared/runtime/clock.ts';
import { ConcurrencyLimit } from '../../shared/runtime/concurrency-limit.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { descriptorOf, listenOnDescriptor } from '../../shared/runtime/unix-socket.ts';
import { ListeningSockets, type SocketSource } from '../handover/listening-sockets.ts';
import { findPeerCredentials } from '../native/peer-credentials.ts';
import { buildAdminApp, type AdminSources } from './admin-app.ts';

export interface AdminOptions extends AdminSources {
  /** Of the unix socket. */
  readonly path: string;
  /** Where the socket comes from. */
  readonly sockets?: SocketSource;
  readonly clock: Clock;
}

export interface Admin extends Running {
  /** Takes no more connections; those that there are get their answers. */
  retire(): void;
  /** How many there are. */
  readonly connections: number;
}

/** Every user may ask why his own connections were refused. */
const SOCKET_MODE = 0o666;
const MAX_CONNECTIONS_PER_UID = 16;
/** Of all users but root, whom nobody can keep out. */
const MAX_CONNECTIONS = 256;
/** Of one user, none of whom is root: each answer takes as long as some connections of others. */
const MAX_REQUESTS_PER_SECOND = 20;
const SECOND_MS = 1000;
/** From the connection to its end, whatever comes on it: the command line asks one thing and goes. */
const LIFE_MS = 30_000;
const MAX_HEADER_BYTES = 8 * 1024;

/**
 * Local administration by HTTP/1.1 on a unix socket; who asks is told by the kernel. It tells, and replaces the agent by another process; nothing else can be changed through it. Throws like
 * `claimSocketPath`. `stop` ends its connections and removes the socket.
 */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const { path, sockets = new ListeningSockets() } = options;
  const listening = await sockets.unix(path, SOCKET_MODE);
  const gate = new AdminGate(options);
  const app = buildAdminApp(options, (environment) => gate.uidOf(socketOf(environment)));
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const http = createHttpServer({ maxHeaderSize: MAX_HEADER_BYTES }, (incoming, outgoing) => {
    if (gate.beginRequest(incoming.socket)) void listener(incoming, outgoing);
    else incoming.socket.destroy();
  });
  const server = createServer((socket) => {
    if (gate.admit(socket)) http.emit('connection', socket);
    else socket.destroy();
  });
  await listenOnDescriptor(server, listening.fd);
  const retire = (): void => {
    server.close();
    listening.closed();
  };
  return {
    retire,
    get connections() {
      return gate.connections;
    },
    stop: async () => {
      retire();
      gate.close();
      await Promise.resolve();
    },
  };
}

/** Who is connected, and how many may be. */
class AdminGate {
  readonly #uids = new Map<Socket, number>();
  readonly #perUid = new ConcurrencyLimit(MAX_CONNECTIONS_PER_UID);
  readonly #clock: Clock;
  readonly #agentUid: number;
  /** Requests in this second. */
  readonly #asked = new Map<number, number>();
  #sinceMs = -Infinity;

  constructor({ clock, agentUid }: Pick<AdminOptions, 'clock' | 'agentUid'>) {
    this.#clock = clock;
    this.#agentUid = agentUid;
  }

  admit(socket: Socket): boolean {
    const fd = descriptorOf(socket);
    const uid = fd === undefined ? undefined : findPeerCredentials(fd)?.uid;
    if (uid === undefined || (uid !== 0 && this.#uids.size >= MAX_CONNECTIONS)) return false;
    if (this.#askedBy(uid) >= MAX_REQUESTS_PER_SECOND) return false;
    const leave = this.#perUid.tryEnter(String(uid));
    if (leave === undefined) return false;
    this.#uids.set(socket, uid);
    const cancel = this.#clock.schedule(LIFE_MS, () => socket.destroy());
    socket.once('close', () => {
      cancel();
      this.#uids.delete(socket);
      leave();
    });
    return true;
  }

  /** Counts a request; false: its user has asked too much in this second. */
  beginRequest(socket: Socket): boolean {
    const uid = this.#uids.get(socket);
    if (uid === undefined) return false;
    const asked = this.#askedBy(uid);
    this.#asked.set(uid, asked + 1);
    return asked < MAX_REQUESTS_PER_SECOND;
  }

  /** None by root and the agent's own user. */
  #askedBy(uid: number): number {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sinceMs >= SECOND_MS) {
      this.#sinceMs = nowMs;
      this.#asked.clear();
    }
    return uid === 0 || uid === this.#agentUid ? 0 : (this.#asked.get(uid) ?? 0);
  }

  get connections(): number {
    return this.#uids.size;
  }

  uidOf(socket: Socket): number | undefined {
    return this.#uids.get(socket);
  }

  close(): void {
    for (const socket of this.#uids.keys()) socket.destroy();
  }
}

/** What @hono/node-server puts into Hono's environment. */
function socketOf(environment: unknown): Socket {
  return (environment as { readonly incoming: { readonly socket: Socket } }).incoming.socket;
}
