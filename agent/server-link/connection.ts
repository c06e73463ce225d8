import http2, {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2';
import type { Socket } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { PicketError } from '../../shared/errors/errors.ts';
import { BODY_BYTES_PER_SECOND } from '../../shared/protocol/body-rate.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { HeldSvid } from '../identity/identity.ts';
import type { SocketAddress } from '../native/socket-address.ts';

/** Starts a TCP connection that capture lets pass; it may still be connecting when it is returned. */
export type Dial = (destination: SocketAddress) => Socket;

export interface ConnectOptions {
  readonly destination: SocketAddress;
  readonly dial: Dial;
  /** Judges the server by the certificates it showed, leaf first, DER. Throws when it is not trusted; nothing was sent before. */
  readonly verify: (chain: readonly Uint8Array[]) => void;
  /** What the agent shows of itself; nothing before it was attested. */
  readonly credentials: HeldSvid | undefined;
  readonly clock: Clock;
  /** Hears the server's time with each answer that has a Date header, in milliseconds since 1970. */
  readonly onServerTime?: (serverTimeMs: number) => void;
  /** Longest time to connect, handshake included. */
  readonly timeoutMs?: number;
}

export interface ServerRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as they are, in the place of `body`; not to be changed before the answer has come. */
  readonly bytes?: Uint8Array;
}

/** An answer of which the head has come. */
export interface ServerResponse {
  readonly status: number;
  /** Ends with the answer; throws `unavailable` when the connection breaks first. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Gives up the rest of the answer. */
  cancel(): void;
}

const CONNECT_TIMEOUT_MS = 10_000;
const RESPONSE_TIMEOUT_MS = 30_000;
const PING_EVERY_MS = 15_000;
const PING_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 5000;
const MAX_CHAIN = 4;
const NO_CONTENT = 204;
/** Half of what a peer takes before it is asked for more. What waits for that is moved in memory by every frame that goes: of 500 KB at once, that was a third of what sending them cost. */
const PIECE_BYTES = 32 * 1024;

/** Name in the ClientHello: the server has one certificate, and is recognised by its SPIFFE ID, never by a name. */
const SERVER_NAME = 'server.picket';

/** Connects to a server and verifies it. Throws `unavailable`, reason `server_unreachable`, or what `verify` throws. */
export async function connectToServer(options: ConnectOptions): Promise<ServerConnection> {
  const { socket, chain } = await openTls(options);
  return new ServerConnection(socket, chain, options);
}

/** One HTTP/2 connection to one server. It is closed when the server falls silent. */
export class ServerConnection {
  /** DER of the certificate that the server showed. */
  readonly serverCertificate: Uint8Array;
  readonly #session: ClientHttp2Session;
  readonly #clock: Clock;
  readonly #onServerTime: (serverTimeMs: number) => void;
  #cancelPing: () => void = () => undefined;

  constructor(
    socket: TLSSocket,
    chain: readonly Uint8Array[],
    options: Pick<ConnectOptions, 'clock' | 'onServerTime'>,
  ) {
    this.serverCertificate = chain[0] ?? new Uint8Array(0);
    this.#clock = options.clock;
    this.#onServerTime = options.onServerTime ?? (() => undefined);
    this.#session = http2.connect(`https://${SERVER_NAME}`, { createConnection: () => socket });
    // Each request learns of the failure by its own stream.
    this.#session.on('error', () => undefined);
    this.#session.on('close', () => this.#cancelPing());
    this.#schedulePing();
  }

  /** False once no further request can be sent. */
  get isOpen(): boolean {
    return !this.#session.closed && !this.#session.destroyed;
  }

  /** Sends a request and waits for the head of its answer, at most 30 s and so much longer as its bytes take at `BODY_BYTES_PER_SECOND`. Throws `unavailable` (`server_unreachable`) or `deadline_exceeded`. */
  async send(request: ServerRequest): Promise<ServerResponse> {
    if (!this.isOpen) throw unreachable('the connection is closed');
    const body = encodeBody(request);
    const stream = this.#session.request(
      {
        ':method': request.method,
        ':path': request.path,
        accept: 'application/json',
        ...(body === undefined
          ? {}
          : { 'content-type': body.mediaType, 'content-length': String(body.bytes.length) }),
      },
      { endStream: body === undefined },
    );
    if (body !== undefined) sendPiece(stream, body.bytes, 0);
    const sendingMs = ((body?.bytes.length ?? 0) / BODY_BYTES_PER_SECOND) * 1000;
    const withinMs = RESPONSE_TIMEOUT_MS + sendingMs;
    const { head, cancel } = await awaitHead(stream, { withinMs, clock: this.#clock });
    const date = typeof head.date === 'string' ? Date.parse(head.date) : Number.NaN;
    if (!Number.isNaN(date)) this.#onServerTime(date);
    const status = Number(head[':status']);
    // A stream that ends with its head never ends once more.
    return { status, body: status === NO_CONTENT ? emptyBody() : readBody(stream), cancel };
  }

  /** Calls `listener` once when the connection has ended. */
  onClose(listener: () => void): void {
    if (this.#session.destroyed) listener();
    else this.#session.once('close', listener);
  }

  /** Takes no new requests, lets running ones end for up to five seconds, then closes. */
  close(): void {
    this.#cancelPing();
    if (this.#session.destroyed) return;
    const cancel = this.#clock.schedule(CLOSE_TIMEOUT_MS, () => this.#session.destroy());
    this.#session.once('close', cancel);
    this.#session.close();
  }

  /** Closes at once. */
  destroy(): void {
    this.#cancelPing();
    this.#session.destroy();
  }

  #schedulePing(): void {
    this.#cancelPing = this.#clock.schedule(PING_EVERY_MS, () => this.#ping());
  }

  #ping(): void {
    if (!this.isOpen) return;
    this.#cancelPing = this.#clock.schedule(PING_TIMEOUT_MS, () => this.#session.destroy());
    this.#session.ping((error) => {
      this.#cancelPing();
      if (error === null) this.#schedulePing();
      else this.#session.destroy();
    });
  }
}

/** Sends `bytes` from `at` on, each piece once the one before has gone. */
function sendPiece(stream: ClientHttp2Stream, bytes: Uint8Array, at: number): void {
  if (stream.closed || stream.destroyed) return;
  const end = at + PIECE_BYTES;
  if (end >= bytes.length) stream.end(bytes.subarray(at));
  else stream.write(bytes.subarray(at, end), () => sendPiece(stream, bytes, end));
}

function encodeBody({
  body,
  bytes,
}: ServerRequest): { readonly mediaType: string; readonly bytes: Uint8Array } | undefined {
  if (bytes !== undefined) return { mediaType: 'application/octet-stream', bytes };
  if (body === undefined) return undefined;
  return { mediaType: 'application/json', bytes: Buffer.from(JSON.stringify(body)) };
}

interface OpenedTls {
  readonly socket: TLSSocket;
  readonly chain: readonly Uint8Array[];
}

async function openTls(options: ConnectOptions): Promise<OpenedTls> {
  const { credentials, destination, clock } = options;
  const raw = options.dial(destination);
  const socket = tls.connect({
    socket: raw,
    servername: SERVER_NAME,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    // The TLS stack would look for a DNS name; `verify` judges chain, validity and SPIFFE ID instead.
    rejectUnauthorized: false,
    ...(credentials === undefined ? {} : { cert: credentials.chainPem, key: credentials.privateKeyPem }),
  });
  try {
    await awaitHandshake(socket, raw, { clock, timeoutMs: options.timeoutMs ?? CONNECT_TIMEOUT_MS });
    if (socket.alpnProtocol !== 'h2') throw unreachable('it does not speak HTTP/2');
    const chain = readPeerChain(socket);
    options.verify(chain);
    return { socket, chain };
  } catch (error) {
    socket.destroy();
    raw.destroy();
    throw error;
  }
}

async function awaitHandshake(
  socket: TLSSocket,
  raw: Socket,
  limit: { readonly clock: Clock; readonly timeoutMs: number },
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = (cause?: unknown): void => reject(unreachable('it does not answer', cause));
  const cancel = limit.clock.schedule(limit.timeoutMs, () => fail());
  raw.on('error', fail);
  socket.on('error', fail);
  socket.once('close', () => fail());
  socket.once('secureConnect', resolve);
  await promise.finally(cancel);
}

function readPeerChain(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let certificate: tls.DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (certificate?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(new Uint8Array(certificate.raw));
    const issuer: tls.DetailedPeerCertificate | undefined = certificate.issuerCertificate;
    certificate = issuer === certificate ? undefined : issuer;
  }
  if (chain.length === 0) throw unreachable('it shows no certificate');
  return chain;
}

interface AnsweredStream {
  readonly head: IncomingHttpHeaders & IncomingHttpStatusHeader;
  readonly cancel: () => void;
}

async function awaitHead(
  stream: ClientHttp2Stream,
  { withinMs, clock }: { readonly withinMs: number; readonly clock: Clock },
): Promise<AnsweredStream> {
  const { promise, resolve, reject } = Promise.withResolvers<AnsweredStream>();
  const cancel = (): void => stream.close(http2.constants.NGHTTP2_CANCEL);
  const cancelTimer = clock.schedule(withinMs, () => {
    reject(new PicketError('deadline_exceeded', 'server_silent', 'The server did not answer in time'));
    cancel();
  });
  stream.once('response', (head) => resolve({ head, cancel }));
  stream.on('error', (cause) => reject(unreachable('the connection broke', cause)));
  // A connection that ends takes the stream with it without an error.
  stream.once('close', () => reject(unreachable('the connection was closed')));
  return await promise.finally(cancelTimer);
}

async function* emptyBody(): AsyncIterable<Uint8Array> {}

async function* readBody(stream: ClientHttp2Stream): AsyncIterable<Uint8Array> {
  try {
    for await (const chunk of stream) yield chunk as Buffer;
    // Where the connection goes, reading may end as if the answer were complete.
    if (!stream.readableEnded || stream.rstCode !== http2.constants.NGHTTP2_NO_ERROR)
      throw new Error('The answer was cut off');
  } catch (cause) {
    throw unreachable('the connection broke', cause);
  } finally {
    stream.close(http2.constants.NGHTTP2_CANCEL);
  }
}

function unreachable(why: string, cause?: unknown): PicketError {
  return new PicketError('unavailable', 'server_unreachable', `Cannot reach the server: ${why}`, { cause });
}
