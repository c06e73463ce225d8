import type { X509Certificate } from 'node:crypto';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createHash } from 'node:crypto';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { Socket } from 'node:net';

/** The connection on which a request came. */
export interface PeerConnection {
  readonly remoteAddress: string;
  /** What the peer presented, leaf first, DER. Nothing of it is verified yet. Empty without a certificate. */
  readonly peerChain: readonly Uint8Array[];
  /** SHA-256 of the DER of our own leaf on this connection; undefined without TLS. */
  readonly serverCertificateSha256: Uint8Array | undefined;
  /** The uid at the other end of the unix socket; undefined on TLS. */
  readonly localUid: number | undefined;
}

/** What @hono/node-server puts into Hono's environment. */
export interface NodeBindings {
  readonly incoming: IncomingMessage | Http2ServerRequest;
  readonly outgoing: ServerResponse | Http2ServerResponse;
}

/** The longest chain that is looked at: a leaf and three intermediates. */
const MAX_CHAIN = 4;

const localUids = new WeakMap<Socket, number>();

/** Notes which uid is at the other end, for the requests that will come on the socket. */
export function noteLocalUid(socket: Socket, uid: number): void {
  localUids.set(socket, uid);
}

/** The connection of a request; for HTTP/2 the one that carries the stream. */
export function peerConnectionOf(env: NodeBindings): PeerConnection {
  const socket = socketOf(env);
  const localUid = localUids.get(socket);
  if (localUid !== undefined)
    return { remoteAddress: 'local', peerChain: [], serverCertificateSha256: undefined, localUid };
  const tls = socket as TLSSocket;
  const own: X509Certificate | undefined = tls.getX509Certificate();
  return {
    remoteAddress: socket.remoteAddress ?? '',
    peerChain: chainOf(tls.getPeerCertificate(true)),
    serverCertificateSha256: own === undefined ? undefined : createHash('sha256').update(own.raw).digest(),
    localUid: undefined,
  };
}

function socketOf(env: NodeBindings): Socket {
  const { incoming } = env;
  // The compatibility request of HTTP/2 proxies its socket; the session has the real one.
  const session = 'stream' in incoming ? incoming.stream?.session : undefined;
  return session?.socket ?? incoming.socket;
}

function chainOf(leaf: Partial<DetailedPeerCertificate>): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  let current: Partial<DetailedPeerCertificate> | undefined = leaf;
  while (current?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(current.raw);
    if (current.issuerCertificate === current) break;
    current = current.issuerCertificate;
  }
  return chain;
}
