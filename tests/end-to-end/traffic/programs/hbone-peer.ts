/**
 * A node of another mesh, with the HTTP/2 of node:http2: what Istio's ztunnel is to HBONE, as far as these tests need it.
 * bun hbone-peer.ts CERTIFICATE KEY WAY... ; a way is call:PORT=HOST/AUTHORITY (what connects to the loopback port is taken to HOST's port 15008, and
 * asks for AUTHORITY) or serve (port 15008, to the loopback port of the authority). It prints what happens, an object on a line.
 */
import { readFileSync } from 'node:fs';
import { connect, createSecureServer, type ClientHttp2Session, type Http2Stream } from 'node:http2';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

const HBONE_PORT = 15_008;
const [certificate = '', privateKey = '', ...ways] = process.argv.slice(2);
const credentials = { cert: readFileSync(certificate), key: readFileSync(privateKey) };
const sessions = new Map<string, ClientHttp2Session>();

function tell(event: string, about: Readonly<Record<string, unknown>> = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...about })}\n`);
}

/** One connection of TLS for everything that goes to a host, without a server name. */
function sessionOf(host: string): ClientHttp2Session {
  const known = sessions.get(host);
  if (known !== undefined) return known;
  const createConnection = () =>
    connectTls({ host, port: HBONE_PORT, ...credentials, ALPNProtocols: ['h2'], rejectUnauthorized: false });
  const session = connect(`https://${host}:${HBONE_PORT}`, { createConnection });
  sessions.set(host, session);
  session.on('connect', () => tell('session', { host }));
  session.on('error', (error) => tell('session_error', { host, message: error.message }));
  const forget = (): boolean => sessions.get(host) === session && sessions.delete(host);
  session.on('goaway', (code) => {
    tell('goaway', { host, code });
    forget();
  });
  session.on('close', () => {
    tell('session_closed', { host });
    forget();
  });
  return session;
}

function call(host: string, authority: string, socket: Socket): void {
  const stream = sessionOf(host).request({
    ':method': 'CONNECT',
    ':authority': authority,
    baggage: 'k8s.namespace.name=shop,service.name=cart',
    forwarded: `for="10.244.0.9:41000"`,
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
  });
  socket.on('error', () => stream.close(8));
  stream.on('error', () => undefined);
  stream.on('response', (headers) => {
    tell('answer', {
      authority,
      status: Number(headers[':status']),
      reason: headers['picket-reason'] ?? null,
      baggage: headers['baggage'] ?? null,
    });
    if (headers[':status'] === 200) join(stream, socket);
    else socket.destroy();
  });
  stream.on('close', () => {
    tell('stream_closed', { authority, code: stream.rstCode });
    if (stream.rstCode !== 0) socket.resetAndDestroy();
  });
}

function join(stream: Http2Stream, socket: Socket): void {
  stream.pipe(socket);
  socket.pipe(stream);
}

function serve(): void {
  const server = createSecureServer({ ...credentials, requestCert: true, rejectUnauthorized: false });
  server.on('stream', (stream: Http2Stream & { respond(headers: object): void }, headers) => {
    const authority = String(headers[':authority']);
    tell('asked', { authority, baggage: headers['baggage'], forwarded: headers['forwarded'] });
    stream.on('error', () => undefined);
    const port = Number(authority.slice(authority.lastIndexOf(':') + 1));
    const socket = connectTcp({ host: '127.0.0.1', port, allowHalfOpen: true });
    socket.on('connect', () => {
      stream.respond({ ':status': 200 });
      join(stream, socket);
    });
    socket.on('error', () => {
      stream.respond({ ':status': 503 });
      stream.end();
    });
    stream.on('close', () => (stream.rstCode === 0 ? undefined : socket.resetAndDestroy()));
  });
  server.on('sessionError', () => undefined);
  server.on('error', () => undefined);
  server.listen(HBONE_PORT, '0.0.0.0', () => tell('serving'));
}

for (const way of ways) {
  const [, port = '', host = '', authority = ''] = /^call:(\d+)=([^/]+)\/(.+)$/.exec(way) ?? [];
  if (way === 'serve') serve();
  else
    createServer({ allowHalfOpen: true }, (socket) => call(host, authority, socket)).listen(
      Number(port),
      '127.0.0.1',
    );
}
