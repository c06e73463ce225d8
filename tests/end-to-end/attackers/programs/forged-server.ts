import { existsSync, readFileSync } from 'node:fs';
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { createInterface } from 'node:readline';
import type { TLSSocket } from 'node:tls';

/**
 * Stands in for the server: bun THIS ADDRESS CERTIFICATE KEY VICTIM ARTIFACTS. Whoever shows a certificate that names VICTIM gets the first line of standard input on its
 * stream of changes, and every further one as it comes; artefacts are files by their digest. Nothing else is answered.
 */

const PORT = 8443;
const PING_MS = 5000;

const [address, certificate = '', key = '', victim = '', artifacts = ''] = process.argv.slice(2);
const lines: string[] = [];
const streams = new Set<Http2ServerResponse>();

const server = createSecureServer({
  cert: readFileSync(certificate),
  key: readFileSync(key),
  requestCert: true,
  rejectUnauthorized: false,
  minVersion: 'TLSv1.3',
});
server.on('request', (request: Http2ServerRequest, response: Http2ServerResponse) => {
  response.on('error', () => undefined);
  const path = request.url.split('?')[0] ?? '';
  const socket = request.stream.session?.socket as TLSSocket | undefined;
  if (socket?.getPeerCertificate().subjectaltname?.includes(victim) !== true) return refuse(response);
  if (path === '/v1/sync') return follow(response);
  if (path.startsWith('/v1/policy/artifacts/')) return sendArtifact(path, response);
  refuse(response);
});
server.on('sessionError', () => undefined);
server.listen(PORT, address, () => console.log('listening'));
setInterval(() => {
  for (const stream of streams) stream.write('{"kind":"ping"}\n');
}, PING_MS);
createInterface({ input: process.stdin }).on('line', (line) => {
  lines.push(line);
  for (const stream of streams) stream.write(`${line}\n`);
});

function follow(response: Http2ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  for (const line of lines.slice(0, 1)) response.write(`${line}\n`);
  streams.add(response);
  response.once('close', () => streams.delete(response));
}

function sendArtifact(path: string, response: Http2ServerResponse): void {
  const file = `${artifacts}/${path.split('/').at(-1)}`;
  if (existsSync(file)) response.end(readFileSync(file));
  else refuse(response);
}

function refuse(response: Http2ServerResponse): void {
  response.writeHead(503, { 'content-type': 'application/problem+json' });
  response.end('{}');
}
