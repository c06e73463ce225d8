import { getRequestListener } from '@hono/node-server';
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { PicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { Running } from '../../../shared/runtime/shutdown.ts';
import type { HttpLimits } from '../limits.ts';
import { noteLocalUid } from '../peer-connection.ts';
import { ConnectionGuard } from './connection-guard.ts';
import { drainConnections } from './drain.ts';
import type { HttpFetch } from './http-fetch.ts';

/** The credentials of the process at the other end of a unix socket (SO_PEERCRED); undefined when the kernel names none. */
export type FindPeerCredentials = (fd: number) => { readonly uid: number } | undefined;

export interface UnixListenerOptions {
  readonly path: string;
  readonly findPeerCredentials: FindPeerCredentials;
  readonly fetch: HttpFetch;
  readonly limits: HttpLimits;
  readonly clock: Clock;
  readonly log: Log;
}

/** The group of the socket may connect too; what it may do is policies/admin's. */
const SOCKET_MODE = 0o660;

/**
 * HTTP/1.1 on a unix socket for operators of the server's own host. A connection whose peer the kernel does not name is closed. Throws `unavailable`,
 * reason `listen_failed`, also when another server answers on the path. `stop` drains and removes the socket.
 */
export async function startUnixListener(options: UnixListenerOptions): Promise<Running> {
  const { path, limits, clock } = options;
  await removeStale(path);
  const guard = new ConnectionGuard({
    limits: { ...limits, maxConnectionsPerAddress: limits.maxConnections },
    clock,
  });
  const listener = getRequestListener(options.fetch, { overrideGlobalObjects: false });
  const http = createHttpServer(
    { maxHeaderSize: limits.maxHeaderBytes },
    (incoming: IncomingMessage, outgoing: ServerResponse) => {
      outgoing.once('close', guard.beginRequest(incoming.socket));
      void listener(incoming, outgoing);
    },
  );
  const server = createServer((socket) => {
    const uid = peerUid(socket, options);
    if (uid === undefined || !guard.admit(socket)) return void socket.destroy();
    noteLocalUid(socket, uid);
    http.emit('connection', socket);
  });
  await listen(server, path);
  return {
    stop: async () => {
      server.close();
      await drainConnections(guard, { drainMs: limits.drainMs, clock });
      rmSync(path, { force: true });
    },
  };
}

function peerUid(socket: Socket, options: UnixListenerOptions): number | undefined {
  const fd = (socket as { readonly _handle?: { readonly fd?: number } })._handle?.fd;
  const uid = fd === undefined || fd < 0 ? undefined : options.findPeerCredentials(fd)?.uid;
  if (uid === undefined) options.log.warn('local_peer_unknown');
  return uid;
}

/** A socket that a dead server left is removed; a living server's, or a file that is no socket, is not. */
async function removeStale(path: string): Promise<void> {
  const file = lstatSync(path, { throwIfNoEntry: false });
  if (file === undefined) return;
  if (!file.isSocket()) throw listenFailed(path, 'something that is no socket stands there');
  if (await isAnswered(path)) throw listenFailed(path, 'another server answers there');
  rmSync(path, { force: true });
}

async function isAnswered(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(listenFailed(path, 'the system refused', cause)));
    server.listen(path, () => resolve());
  });
  chmodSync(path, SOCKET_MODE);
}

function listenFailed(path: string, why: string, cause?: unknown): PicketError {
  return new PicketError('unavailable', 'listen_failed', `Cannot listen on ${path}: ${why}`, { cause });
}
