import { getRequestListener } from '@hono/node-server';
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type SecureServerOptions,
} from 'node:http2';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { PicketError } from '../../../shared/errors/errors.ts';
import type { Running } from '../../../shared/runtime/shutdown.ts';
import type { Watched } from '../../../shared/runtime/watched-value.ts';
import type { HttpFetch } from './http-fetch.ts';
import { ConnectionGuard, type ConnectionGuardOptions } from './connection-guard.ts';
import { drainConnections } from './drain.ts';
import type { ServerCertificate } from './server-certificate.ts';

export interface ListenAddress {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface TlsListenerOptions extends ConnectionGuardOptions {
  readonly address: ListenAddress;
  readonly certificate: Watched<ServerCertificate>;
  readonly fetch: HttpFetch;
}

export interface TlsListener extends Running {
  readonly port: number;
}

/**
 * HTTP/2 and HTTP/1.1 on TLS 1.3. A client certificate is asked for and none is refused here: who the peer is, is decided for each request.
 * A new certificate serves each new connection. Throws `unavailable`, reason `listen_failed`. `stop` drains.
 */
export async function startTlsListener(options: TlsListenerOptions): Promise<TlsListener> {
  const { certificate, limits, log, clock } = options;
  const guard = new ConnectionGuard(options);
  const server = createSecureServer(
    withHeaderBound(
      {
        ...tlsOptions(certificate.current),
        allowHTTP1: true,
        requestCert: true,
        rejectUnauthorized: false,
        minVersion: 'TLSv1.3',
        handshakeTimeout: limits.handshakeMs,
        maxHeaderListPairs: 100,
        settings: { maxConcurrentStreams: limits.maxStreams, maxHeaderListSize: limits.maxHeaderBytes },
      },
      limits.maxHeaderBytes,
    ),
    guardedListener(options.fetch, guard),
  );
  server.on('connection', (socket: Socket) => guard.admit(socket));
  // A handshake that fails or never ends leaves its socket open.
  server.on('tlsClientError', (error: Error, socket: Socket) => {
    log.debug('handshake_failed', { error });
    socket.destroy();
  });
  server.on('sessionError', (error: Error) => log.debug('session_failed', { error }));
  const stopWatching = certificate.watch((next) => server.setSecureContext(tlsOptions(next)));
  await listen(server, options.address);
  return {
    port: (server.address() as AddressInfo).port,
    stop: async () => {
      stopWatching();
      server.close();
      await drainConnections(guard, { drainMs: limits.drainMs, clock });
    },
  };
}

/** The bound of HTTP/1.1 request heads, which the types of an HTTP/2 server do not know. */
function withHeaderBound(options: SecureServerOptions, maxHeaderSize: number): SecureServerOptions {
  return Object.assign(options, { maxHeaderSize });
}

type Incoming = IncomingMessage | Http2ServerRequest;
type Outgoing = ServerResponse | Http2ServerResponse;

function guardedListener(fetch: HttpFetch, guard: ConnectionGuard) {
  const listener = getRequestListener(fetch, { overrideGlobalObjects: false });
  return (incoming: Incoming, outgoing: Outgoing): void => {
    const session = 'stream' in incoming ? incoming.stream?.session : undefined;
    const socket = session?.socket ?? incoming.socket;
    if (!guard.beginRequest(socket, outgoing)) return void socket.destroy();
    void listener(incoming, outgoing);
  };
}

function tlsOptions(certificate: ServerCertificate): { readonly cert: string; readonly key: string } {
  return { cert: certificate.chainPem, key: certificate.keyPem };
}

async function listen(server: Http2SecureServer, { host, port }: ListenAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new PicketError('unavailable', 'listen_failed', `Cannot listen on ${host}:${port}`, { cause })),
    );
    server.listen(port, host, () => resolve());
  });
}
