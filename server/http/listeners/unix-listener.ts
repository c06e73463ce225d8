import { getRequestListener } from '@hono/node-server';
import { rmSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, type Socket } from 'node:net';
import type { Running } from '../../../shared/runtime/shutdown.ts';
import { claimSocketPath, descriptorOf, listenAtPath } from '../../../shared/runtime/unix-socket.ts';
import { noteLocalUid } from '../peer-connection.ts';
import { ConnectionGuard, type ConnectionGuardOptions } from './connection-guard.ts';
import { drainConnections } from './drain.ts';
import type { HttpFetch } from './http-fetch.ts';

/** The credentials of the process at the other end of a unix socket (SO_PEERCRED); undefined when the kernel names none. */
export type FindPeerCredentials = (fd: number) => { readonly uid: number } | undefined;

export interface UnixListenerOptions extends ConnectionGuardOptions {
  readonly path: string;
  readonly findPeerCredentials: FindPeerCredentials;
  readonly fetch: HttpFetch;
}

/** The group of the socket may connect too; what it may do is policies/admin's. */
const SOCKET_MODE = 0o660;

/**
 * HTTP/1.1 on a unix socket for operators of the server's own host. A connection whose peer the kernel does not name is closed. Throws `unavailable`,
 * reason `listen_failed`, also when another server answers on the path, and `failed_precondition`, reason `socket_folder_unsafe`, when others may write to its folder. `stop` drains and removes the socket.
 */
export async function startUnixListener(options: UnixListenerOptions): Promise<Running> {
  const { path, limits, clock } = options;
  await claimSocketPath(path);
  const guard = new ConnectionGuard({
    ...options,
    limits: { ...limits, maxConnectionsPerAddress: limits.maxUnprovenConnections },
  });
  const listener = getRequestListener(options.fetch, { overrideGlobalObjects: false });
  const http = createHttpServer(
    { maxHeaderSize: limits.maxHeaderBytes },
    (incoming: IncomingMessage, outgoing: ServerResponse) => {
      if (!guard.beginRequest(incoming.socket, outgoing)) return void incoming.socket.destroy();
      void listener(incoming, outgoing);
    },
  );
  const server = createServer((socket) => {
    const uid = peerUid(socket, options);
    if (uid === undefined || !guard.admit(socket)) return void socket.destroy();
    noteLocalUid(socket, uid);
    http.emit('connection', socket);
  });
  await listenAtPath(server, path, SOCKET_MODE);
  return {
    stop: async () => {
      server.close();
      await drainConnections(guard, { drainMs: limits.drainMs, clock });
      rmSync(path, { force: true });
    },
  };
}

function peerUid(socket: Socket, options: UnixListenerOptions): number | undefined {
  const fd = descriptorOf(socket);
  const uid = fd === undefined ? undefined : options.findPeerCredentials(fd)?.uid;
  if (uid === undefined) options.log.warn('local_peer_unknown');
  return uid;
}
