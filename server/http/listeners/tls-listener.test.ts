import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { Hono } from 'hono';
import { systemClock, type Clock } from '../../../shared/runtime/clock.ts';
import { CrowdTally } from '../../../shared/runtime/crowd-tally.ts';
import { WatchedValue } from '../../../shared/runtime/watched-value.ts';
import { silentLog, TEST_TRUST_DOMAIN } from '../../../tests/kit/datastore.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../../tests/kit/refusal-of.ts';
import { createTestCa, type TestCa } from '../../../tests/kit/test-ca.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { startServerCertificate, type RunningServerCertificate } from '../../ca/server-certificate.ts';
import { DEFAULT_LIMITS, type HttpLimits } from '../limits.ts';
import type { HttpEnvironment } from '../mount-routes.ts';
import { peerConnectionOf } from '../peer-connection.ts';
import { guardedRequestOf } from './connection-guard.ts';
import type { TurnedAway } from './connection-guard.ts';
import { startTlsListener, type TlsListener } from './tls-listener.ts';

let folder: string;
let ca: TestCa;
let first: RunningServerCertificate;
let second: RunningServerCertificate;
const running: TlsListener[] = [];
let slowRequests = 0;
/** Ends the requests of `/slow`. */
let finish = Promise.withResolvers<void>();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-tls-listener-'));
  ca = await createTestCa({ folder, clock: systemClock, trustDomain: TEST_TRUST_DOMAIN });
  first = await certify();
  second = await certify();
});
beforeEach(() => {
  slowRequests = 0;
  finish = Promise.withResolvers();
});
afterEach(async () => {
  for (const each of running.splice(0)) await each.stop();
});
afterAll(async () => {
  await first.stop();
  await second.stop();
  rmSync(folder, { recursive: true });
});

async function certify(): Promise<RunningServerCertificate> {
  return await startServerCertificate({
    authority: ca.authority,
    trustDomain: TEST_TRUST_DOMAIN,
    names: ['localhost'],
    clock: systemClock,
    random: Math.random,
    log: silentLog,
  });
}

async function start(
  options: { readonly limits?: Partial<HttpLimits>; readonly port?: number; readonly clock?: Clock } = {},
): Promise<{
  readonly listener: TlsListener;
  readonly certificate: WatchedValue<typeof first.current>;
  readonly crowd: CrowdTally<TurnedAway>;
}> {
  const app = new Hono<HttpEnvironment>();
  app.get('/peer', (context) => {
    const { peerChain, localUid } = peerConnectionOf(context.env);
    return context.json({ chain: peerChain.length, isLocal: localUid !== undefined });
  });
  app.get('/prove', (context) => {
    guardedRequestOf(context.env.outgoing).prove('somebody');
    return context.text('proven');
  });
  app.get('/slow', async (context) => {
    slowRequests += 1;
    await finish.promise;
    return context.text('done');
  });
  app.get('/long', (context) => context.text('x'.repeat(8 * 1024 * 1024)));
  const certificate = new WatchedValue(first.current);
  const crowd = new CrowdTally<TurnedAway>(systemClock);
  const listener = await startTlsListener({
    address: { host: '127.0.0.1', port: options.port ?? 0 },
    certificate,
    fetch: app.fetch,
    crowd,
    limits: { ...DEFAULT_LIMITS, drainMs: 200, ...options.limits },
    clock: options.clock ?? systemClock,
    log: silentLog,
  });
  running.push(listener);
  return { listener, certificate, crowd };
}

/** A connection as far as its handshake came: what it was shown, or why not. */
async function shake(
  port: number,
  options: { readonly maxVersion?: 'TLSv1.2'; readonly client?: RunningServerCertificate } = {},
): Promise<TLSSocket> {
  const { client, ...rest } = options;
  return await new Promise((resolve, reject) => {
    const socket = connect({
      host: '127.0.0.1',
      port,
      servername: 'localhost',
      rejectUnauthorized: false,
      ...(client === undefined ? {} : { cert: client.current.chainPem, key: client.current.keyPem }),
      ...rest,
    });
    socket.once('secureConnect', () => resolve(socket));
    socket.once('error', reject);
  });
}

function connectByHttp2(port: number): ClientHttp2Session {
  const session = connectHttp2(`https://localhost:${port}`, {
    rejectUnauthorized: false,
    cert: first.current.chainPem,
    key: first.current.keyPem,
  });
  session.on('error', () => undefined);
  return session;
}

/** The body of an answer; rejects when the connection ends before. */
async function askByHttp2(session: ClientHttp2Session, path: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    const request = session.request({ ':path': path });
    let text = '';
    request.setEncoding('utf8');
    request.on('data', (chunk: string) => (text += chunk));
    request.once('end', () => resolve(text));
    request.once('error', reject);
    request.once('close', () => reject(new Error('closed')));
    request.end();
  });
}

describe('startTlsListener()', () => {
  test('answers HTTP/1.1 without a client certificate: who the peer is, is decided later', async () => {
    const { listener } = await start();
    const answer = await fetch(`https://localhost:${listener.port}/peer`, {
      tls: { rejectUnauthorized: false },
      keepalive: false,
    });
    expect(await answer.json()).toEqual({ chain: 0, isLocal: false });
  });

  test('answers HTTP/2 and shows the app the chain of the client', async () => {
    const { listener } = await start();
    const session = connectByHttp2(listener.port);
    expect(JSON.parse(await askByHttp2(session, '/peer'))).toEqual({ chain: 2, isLocal: false });
    session.close();
  });

  test('speaks nothing older than TLS 1.3', async () => {
    const { listener } = await start();
    const socket = await shake(listener.port);
    expect(socket.getProtocol()).toBe('TLSv1.3');
    socket.destroy();
    expect(await shake(listener.port, { maxVersion: 'TLSv1.2' }).catch(() => 'refused')).toBe('refused');
  });

  test('shows a new certificate to each new connection', async () => {
    const { listener, certificate } = await start();
    const serialShown = async (): Promise<string> => {
      const socket = await shake(listener.port);
      const { serialNumber } = socket.getPeerCertificate();
      socket.destroy();
      return serialNumber;
    };
    const before = await serialShown();
    certificate.set(second.current);
    expect(await serialShown()).not.toBe(before);
  });

  test('ends a connection on which no request comes in time', async () => {
    const clock = new FakeClock();
    const { listener } = await start({ clock });
    const socket = await shake(listener.port);
    let isClosed = false;
    socket.once('close', () => (isClosed = true));
    clock.advance(DEFAULT_LIMITS.idleMs);
    await waitUntil('the idle connection is closed', () => isClosed);
  });

  test('ends no connection of HTTP/2 while a request is under way, and the idle one afterwards', async () => {
    const clock = new FakeClock();
    const { idleMs } = DEFAULT_LIMITS;
    const { listener } = await start({ limits: { answerMs: 2 * idleMs }, clock });
    const session = connectByHttp2(listener.port);
    const answer = askByHttp2(session, '/slow');
    await waitUntil('the request is under way', () => slowRequests > 0);
    clock.advance(1.5 * idleMs);
    finish.resolve();
    expect(await answer).toBe('done');
    expect(session.destroyed).toBe(false);
    await waitUntil('it counts as idle', () => clock.pending === 1);
    clock.advance(idleMs);
    await waitUntil('the idle connection is closed', () => session.destroyed);
  });

  test('cuts who does not read an answer in time', async () => {
    const { listener } = await start({ limits: { answerMs: 200 } });
    const session = connectByHttp2(listener.port);
    const request = session.request({ ':path': '/long' });
    request.on('error', () => undefined);
    request.pause();
    await waitUntil('the connection is cut', () => session.destroyed);
  });

  test('ends the oldest of too many peers that have proven nothing, and none that has', async () => {
    const { listener, crowd } = await start({ limits: { maxUnprovenConnections: 2 } });
    const proven = connectByHttp2(listener.port);
    expect(await askByHttp2(proven, '/prove')).toBe('proven');
    const ended: number[] = [];
    const sockets: TLSSocket[] = [];
    for (let i = 0; i < 4; i++) {
      const socket = await shake(listener.port);
      socket.once('close', () => ended.push(i));
      sockets.push(socket);
    }
    await waitUntil('the oldest two are closed', () => ended.length === 2);
    expect(new Set(ended)).toEqual(new Set([0, 1]));
    expect([...crowd.counts]).toEqual([['unproven', 2]]);
    expect(await askByHttp2(proven, '/prove')).toBe('proven');
    for (const socket of sockets) socket.destroy();
    proven.destroy();
  });

  test('counts who has proven itself no more among those of its address, up to its own bound', async () => {
    const { listener } = await start({ limits: { maxConnectionsPerAddress: 2, maxConnectionsPerActor: 1 } });
    const one = connectByHttp2(listener.port);
    expect(await askByHttp2(one, '/prove')).toBe('proven');
    const other = connectByHttp2(listener.port);
    expect(await askByHttp2(other, '/prove')).toBe('proven');
    const third = await shake(listener.port);
    expect(other.destroyed).toBe(false);
    const fourth = await shake(listener.port);
    await waitUntil('the one beyond its bound gives way', () => other.destroyed);
    expect([one.destroyed, third.destroyed]).toEqual([false, false]);
    for (const each of [one, third, fourth]) each.destroy();
  });

  test('takes no more connections of one address than its bound: the oldest on which no request is under way gives way', async () => {
    const { listener } = await start({ limits: { maxConnectionsPerAddress: 2 } });
    const busy = connectByHttp2(listener.port);
    const answer = askByHttp2(busy, '/slow');
    await waitUntil('the request is under way', () => slowRequests > 0);
    const idle = await shake(listener.port);
    const next = await shake(listener.port);
    await waitUntil('the idle one is closed', () => idle.destroyed);
    finish.resolve();
    expect(await answer).toBe('done');
    for (const each of [busy, next]) each.destroy();
  });

  test('takes a newcomer in the place of one that has proven nothing when all are taken', async () => {
    const { listener } = await start({ limits: { maxConnections: 2 } });
    const proven = connectByHttp2(listener.port);
    expect(await askByHttp2(proven, '/prove')).toBe('proven');
    const unproven = await shake(listener.port);
    const next = await shake(listener.port);
    await waitUntil('the one that has proven nothing is closed', () => unproven.destroyed);
    expect(await askByHttp2(proven, '/prove')).toBe('proven');
    next.destroy();
    proven.destroy();
  });

  test('says which address it cannot have', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { readonly port: number };
    expect(await refusalOf(start({ port }))).toMatchObject({ code: 'unavailable', reason: 'listen_failed' });
    await new Promise((resolve) => other.close(resolve));
  });
});
