import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { run } from '../../../tests/kit/child.ts';
import { makeOutsideCertificate, type OutsideCertificate } from '../../../tests/kit/outside-certificate.ts';
import { refusalOf } from '../../../tests/kit/refusal-of.ts';
import { TakenDescriptors } from '../../../tests/kit/taken-descriptors.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import { byteStreamContract } from './byte-stream-contract.ts';
import type { ByteStream } from './byte-stream.ts';
import { dialTcp, listenTcp, type TcpListener } from './tcp-stream.ts';
import { acceptTls, dialTls, type TlsEnd } from './tls-stream.ts';

const NO_BYTES = new Uint8Array(0);
const ALPN = Buffer.from('\x02h2\x08http/1.1', 'latin1');

let folder: string;
let shown: OutsideCertificate;
const listeners: TcpListener[] = [];
const servers: Server[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-tls-stream-'));
  shown = await makeOutsideCertificate(folder, { names: ['api.test'] });
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  for (const listener of listeners.splice(0)) listener.stop();
  for (const server of servers.splice(0)) server.close();
});

/** Of a wait that nobody gives up. */
const NEVER = new AbortController().signal;

/** Ends the TLS of whoever connects. */
function accept(
  timeoutMs = 5000,
  signal = NEVER,
): {
  readonly port: number;
  readonly ended: Promise<TlsEnd>;
  readonly clients: ByteStream[];
} {
  const { promise, resolve, reject } = Promise.withResolvers<TlsEnd>();
  // A test may look at nothing but the client.
  promise.catch(() => undefined);
  const tls = {
    cert: readFileSync(shown.certificate, 'utf8'),
    key: readFileSync(shown.key, 'utf8'),
    ALPNProtocols: ALPN,
  } as unknown as Bun.TLSOptions;
  const clients: ByteStream[] = [];
  const listener = listenTcp({
    address: '127.0.0.1',
    port: 0,
    onStream: (stream) => {
      clients.push(stream);
      acceptTls(stream, { first: NO_BYTES, tls, clock: systemClock, timeoutMs, signal }).then(
        resolve,
        reject,
      );
    },
  });
  listeners.push(listener);
  return { port: listener.port, ended: promise, clients };
}

async function dial(port: number, timeoutMs = 5000): Promise<TlsEnd> {
  const tls = { rejectUnauthorized: false, serverName: 'api.test', ALPNProtocols: ALPN };
  return await dialTls({
    address: '127.0.0.1',
    port,
    mark: 0,
    clock: systemClock,
    timeoutMs,
    tls,
    signal: NEVER,
  });
}

async function connectTo(port: number): Promise<Bun.Socket> {
  return await Bun.connect({ hostname: '127.0.0.1', port, socket: { data: () => undefined } });
}

async function makeEnds(): Promise<{ readonly client: TlsEnd; readonly server: TlsEnd }> {
  const { port, ended } = accept();
  return { client: await dial(port), server: await ended };
}

byteStreamContract('the client of a TLS connection', async () => {
  const { client, server } = await makeEnds();
  return { near: client.stream, far: server.stream };
});

byteStreamContract('the server of a TLS connection over a stream', async () => {
  const { client, server } = await makeEnds();
  return { near: server.stream, far: client.stream };
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

describe('dialTls()', () => {
  test('tells the protocol and what the server proved, without judging it', async () => {
    const { client, server } = await makeEnds();
    expect([client.protocol, server.protocol]).toEqual(['h2', 'h2']);
    expect(client.error).toBeDefined();
    expect(client.socket.getPeerX509Certificate()?.raw.length).toBeGreaterThan(0);
  });

  test('tells one that is not there or keeps silent from one that fails the handshake', async () => {
    const port = await listen(createServer());
    expect((await refusalOf(dial(port, 200))).reason).toBe('dial_failed');
    servers.pop()?.close();
    expect(await refusalOf(dial(port))).toMatchObject({ code: 'unavailable', reason: 'dial_failed' });
    const talker = await listen(createServer((socket) => socket.end('220 mail\r\n')));
    expect((await refusalOf(dial(talker))).reason).toBe('tls_failed');
  });
});

describe('acceptTls()', () => {
  test('begins with bytes that were read before, and serves a program of OpenSSL', async () => {
    const { port, ended } = accept();
    const client = ['openssl', 's_client', '-quiet', '-connect', `127.0.0.1:${port}`];
    const heard = run(['timeout', '10', ...client], { stdin: '' });
    const { stream } = await ended;
    stream.attach(new CollectingReader());
    stream.write(Buffer.from('hello\n'));
    stream.end();
    stream.resume();
    expect((await heard).stdout).toBe('hello\n');
  });

  test('gives up a client that says nothing or no TLS', async () => {
    const silent = accept(100);
    await connectTo(silent.port);
    expect(await refusalOf(silent.ended)).toMatchObject({ reason: 'dial_failed', message: 'ETIMEDOUT' });
    const nonsense = accept();
    const other = await connectTo(nonsense.port);
    other.write('GET / HTTP/1.1\r\n\r\n');
    expect((await refusalOf(nonsense.ended)).reason).toBe('tls_failed');
  });

  test('gives up at once a client that was given up while its pair of sockets was made', async () => {
    const { port, ended } = accept(60_000, AbortSignal.abort());
    await connectTo(port);
    expect(await refusalOf(ended)).toMatchObject({ reason: 'dial_failed', message: 'ECANCELED' });
  });

  test('needs descriptors, and leaves none behind where it fails', async () => {
    const before = readdirSync('/proc/self/fd').length;
    const leaving = new AbortController();
    const { port, ended, clients } = accept(60_000, leaving.signal);
    const socket = await connectTo(port);
    await waitUntil('it has come', () => clients.length === 1);
    clients[0]?.abort();
    leaving.abort();
    await waitUntil('it has gone', () => socket.readyState <= 0);
    expect((await refusalOf(ended)).message).toBe('ECANCELED');
    const stream = await dialTcp({
      address: '127.0.0.1',
      port,
      mark: 0,
      clock: systemClock,
      timeoutMs: 5000,
    });
    const pending = { first: NO_BYTES, clock: systemClock, timeoutMs: 5000, signal: NEVER };
    {
      using _ = new TakenDescriptors();
      const accepted = acceptTls(stream, { ...pending, tls: {} });
      expect(await refusalOf(accepted)).toMatchObject({ code: 'unavailable', reason: 'socket_pair_failed' });
    }
    const unusable = { cert: 'no certificate', key: 'no key' };
    const refused = acceptTls(stream, { ...pending, tls: unusable });
    expect((await refusalOf(refused)).reason).toBe('tls_failed');
    stream.abort();
    listeners.pop()?.stop();
    await waitUntil('all are closed', () => readdirSync('/proc/self/fd').length <= before);
  });

  test('an abort is a reset for whoever carries it, with the reason, and no end in good order', async () => {
    const { port, ended, clients } = accept();
    const client = await dial(port);
    const reader = new CollectingReader();
    client.stream.attach(reader);
    client.stream.resume();
    const failures: unknown[] = [];
    const [carrier] = clients;
    const abort = carrier!.abort.bind(carrier);
    carrier!.abort = (failure) => {
      failures.push(failure);
      abort(failure);
    };
    const failure = { reason: 'egress_deny', message: 'no more' } as const;
    (await ended).stream.abort(failure);
    await waitUntil('the client hears it', () => reader.closure);
    expect([reader.isEnded, reader.closure?.failure === undefined]).toEqual([false, false]);
    expect(failures).toEqual([failure]);
  });
});
