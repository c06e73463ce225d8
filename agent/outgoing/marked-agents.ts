import { lookup } from 'node:dns/promises';
import http, { type ClientRequestArgs } from 'node:http';
import https from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { SocketAddress } from '../native/socket-address.ts';

/** Starts a TCP connection that capture lets pass. */
type Dial = (destination: SocketAddress) => Socket;

export interface MarkedAgentOptions {
  readonly dial: Dial;
  /** PEM: who must have issued the server's certificate; the authorities of the host's own list unless given. Only for TLS. */
  readonly ca?: string;
}

/** As `node:http` calls it; the types want a socket with an error, too. */
type Callback = (error: Error | null, socket?: Duplex) => void;

/**
 * What makes the connections of `node:http` requests to other services than ours: each carries the mark by which capture lets it pass. For `https:` the
 * server's certificate must be good for the name that is asked for.
 */
export function createMarkedAgent(protocol: 'http:' | 'https:', options: MarkedAgentOptions): http.Agent {
  const connect = protocol === 'http:' ? connectPlain : connectTls;
  const agent = protocol === 'http:' ? new http.Agent(KEEP) : new https.Agent(KEEP);
  agent.createConnection = (target: ClientRequestArgs, callback?: unknown): undefined => {
    void answer(connect(target, options), callback as Callback | undefined);
  };
  return agent;
}

async function answer(connecting: Promise<Socket>, callback: Callback | undefined): Promise<void> {
  let socket: Socket;
  try {
    socket = await connecting;
  } catch (error) {
    return callback?.(error instanceof Error ? error : new Error(String(error)));
  }
  callback?.(null, socket);
}

const KEEP = { keepAlive: true, maxSockets: 4 };

async function connectPlain(target: ClientRequestArgs, { dial }: MarkedAgentOptions): Promise<Socket> {
  const { address } = await lookup(hostOf(target));
  return dial({ address, port: Number(target.port ?? 80) });
}

async function connectTls(target: ClientRequestArgs, options: MarkedAgentOptions): Promise<Socket> {
  const host = hostOf(target);
  const { address } = await lookup(host);
  const socket = options.dial({ address, port: Number(target.port ?? 443) });
  return tls.connect({
    socket,
    host,
    // No address is a name in a ClientHello (RFC 6066 3); the certificate is checked for it all the same.
    servername: isIP(host) === 0 ? host : '',
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  });
}

function hostOf({ host, hostname }: ClientRequestArgs): string {
  return (hostname ?? host ?? '').replace(/^\[|\]$/g, '');
}
