import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { PicketError } from '../../shared/errors/errors.ts';
import { problemOf } from '../../shared/protocol/problem.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { BODY_BYTES_PER_SECOND } from '../../shared/protocol/body-rate.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { connectToServer, type ServerConnection } from './connection.ts';
import { verifyServer } from './first-trust.ts';
import { ScriptedServer } from './fixtures/scripted-server.ts';
import { createMarkedDial } from './marked-dial.ts';
import { readAnswer, requestBytes } from './read-answer.ts';

let server: ScriptedServer;
const connections: ServerConnection[] = [];

beforeAll(async () => {
  server = await ScriptedServer.start();
});
afterEach(() => {
  for (const connection of connections.splice(0)) connection.destroy();
});
afterAll(() => server.stop());

async function connect(...options: Parameters<ScriptedServer['connect']>): Promise<ServerConnection> {
  const connection = await server.connect(...options);
  connections.push(connection);
  return connection;
}

const get = (path: string) => ({ method: 'GET', path }) as const;

describe('connectToServer()', () => {
  test('shows the chain of the server, which verifyServer() accepts', async () => {
    const connection = await connect({ verify: (chain) => verifyServer(chain, server.bundle, Date.now()) });
    expect(connection.serverCertificate.length).toBeGreaterThan(100);
  });

  test('sends nothing to a server that is not trusted', async () => {
    const other = await ScriptedServer.start();
    const before = server.requests.length;
    const refusal = await refusalOf(
      server.connect({ verify: (chain) => verifyServer(chain, other.bundle, Date.now()) }),
    );
    expect(refusal.code).toBe('unauthenticated');
    expect(server.requests.length).toBe(before);
    other.stop();
  });

  test('refuses a workload of the same trust domain that poses as the server', async () => {
    const impostor = await ScriptedServer.start('spiffe://example.org/web');
    const refusal = await refusalOf(
      impostor.connect({ verify: (chain) => verifyServer(chain, impostor.bundle, Date.now()) }),
    );
    expect(refusal).toMatchObject({ code: 'unauthenticated', reason: 'server_identity_mismatch' });
    impostor.stop();
  });

  test('refuses a server whose certificate has ended', async () => {
    const refusal = await refusalOf(
      server.connect({
        verify: (chain) => verifyServer(chain, server.bundle, Date.now() + 2 * 365 * 86_400_000),
      }),
    );
    expect(refusal.code).toBe('unauthenticated');
  });

  test('gives up on a host that accepts and says nothing', async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const clock = new FakeClock();
    const attempt = refusalOf(
      connectToServer({
        destination: { address: '127.0.0.1', port: (silent.address() as AddressInfo).port },
        dial: createMarkedDial(0),
        verify: () => undefined,
        credentials: undefined,
        clock,
      }),
    );
    await waitUntil('it is asked', () => sockets.length === 1 && clock.pending === 1);
    clock.advance(10_000);
    expect(await attempt).toMatchObject({ code: 'unavailable', reason: 'server_unreachable' });
    for (const socket of sockets) socket.destroy();
    silent.close();
  });

  test('says at once that nobody listens', async () => {
    const attempt = connectToServer({
      destination: { address: '127.0.0.1', port: 1 },
      dial: createMarkedDial(0),
      verify: () => undefined,
      credentials: undefined,
      clock: systemClock,
    });
    expect(await refusalOf(attempt)).toMatchObject({ reason: 'server_unreachable' });
  });
});

describe('ServerConnection.send()', () => {
  test('tells the time of the server', async () => {
    const times: number[] = [];
    const connection = await connect({ onServerTime: (ms) => times.push(ms) });
    const beforeMs = Date.now();
    await requestBytes(connection, get('/'));
    // The header tells whole seconds, and is written anew a moment after each has begun.
    expect(times[0]).toBeGreaterThan(beforeMs - 2000);
    expect(times[0]).toBeLessThanOrEqual(Date.now());
  });

  test('gives an answer that has no body', async () => {
    server.handler = (_request, response) => {
      response.statusCode = 204;
      response.end();
    };
    const connection = await connect();
    expect((await requestBytes(connection, get('/'))).length).toBe(0);
  });

  test('sends bytes as they are, of every length and to a server that takes its time', async () => {
    server.handler = (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        request.pause();
        setImmediate(() => request.resume());
      });
      request.on('end', () => response.end(Buffer.concat(chunks)));
    };
    const connection = await connect();
    for (const length of [0, 1, 32_767, 32_768, 32_769, 65_536, 500_001]) {
      const bytes = Buffer.from(Array.from({ length }, (_, i) => (i * 7) % 251));
      const answer = await requestBytes(connection, { method: 'POST', path: '/', bytes });
      expect(answer.equals(bytes)).toBe(true);
      expect(server.requests.at(-1)?.headers).toMatchObject({
        'content-type': 'application/octet-stream',
        'content-length': String(length),
      });
    }
  });

  test('hears an answer that comes before all is sent, and goes on with the next request', async () => {
    const tooLarge = new PicketError('invalid_argument', 'body_too_large', 'The body is too large');
    server.handler = (request, response) => {
      response.statusCode = request.method === 'POST' ? 413 : 200;
      response.end(JSON.stringify(problemOf(tooLarge)));
    };
    const connection = await connect();
    for (let round = 0; round < 20; round++) {
      const large = { method: 'POST', path: '/', bytes: Buffer.alloc(1_000_000) } as const;
      expect(await refusalOf(requestBytes(connection, large))).toMatchObject({ reason: 'body_too_large' });
      await requestBytes(connection, get('/'));
    }
  });

  test('throws where the connection breaks before all is sent', async () => {
    server.handler = (request) => void request.once('data', () => server.cut());
    const connection = await connect();
    const sending = connection.send({ method: 'POST', path: '/', bytes: Buffer.alloc(1_000_000) });
    expect(await refusalOf(sending)).toMatchObject({ code: 'unavailable', reason: 'server_unreachable' });
  });

  test('throws where the connection breaks within an answer', async () => {
    server.handler = (_request, response) => {
      response.write('the first half');
    };
    const connection = await connect();
    const response = await connection.send(get('/'));
    const reading = refusalOf(readAnswer(response));
    server.cut();
    expect(await reading).toMatchObject({ code: 'unavailable', reason: 'server_unreachable' });
    await waitUntil('it is closed', () => !connection.isOpen);
    expect(await refusalOf(connection.send(get('/')))).toMatchObject({ reason: 'server_unreachable' });
  });

  test('throws where the connection breaks before the answer', async () => {
    server.handler = () => undefined;
    const connection = await connect();
    const before = server.requests.length;
    const answer = refusalOf(connection.send(get('/')));
    await waitUntil('it is asked', () => server.requests.length > before);
    server.cut();
    expect(await answer).toMatchObject({ code: 'unavailable', reason: 'server_unreachable' });
  });

  test('gives up on an answer that does not begin within 30 s', async () => {
    const clock = new FakeClock();
    server.handler = (request, response) => {
      if (request.url === '/answered') response.end();
    };
    const connection = await connect({ clock });
    const answer = refusalOf(connection.send(get('/')));
    clock.advance(16_000);
    // The ping of the fifteenth second is answered before this is.
    await requestBytes(connection, get('/answered'));
    clock.advance(14_000);
    expect(await answer).toMatchObject({ code: 'deadline_exceeded', reason: 'server_silent' });
    expect(connection.isOpen).toBe(true);
  });

  test('waits longer for the answer to what may take longer to be sent', async () => {
    const clock = new FakeClock();
    server.handler = (request, response) => {
      if (request.url === '/other') response.end();
    };
    const connection = await connect({ clock });
    const bytes = new Uint8Array(10 * BODY_BYTES_PER_SECOND);
    const answer = refusalOf(connection.send({ method: 'POST', path: '/', bytes }));
    let isOver = false;
    void answer.then(() => (isOver = true));
    for (let passedMs = 0; passedMs < 40_000; passedMs += 8000) {
      // The ping that was due is answered before this is.
      await requestBytes(connection, get('/other'));
      expect(isOver).toBe(false);
      clock.advance(8000);
    }
    expect(await answer).toMatchObject({ code: 'deadline_exceeded', reason: 'server_silent' });
  });

  test('closes a connection on which pings are not answered', async () => {
    const clock = new FakeClock();
    const connection = await connect({ clock });
    for (const socket of server.sockets) socket.pause();
    clock.advance(15_000);
    clock.advance(10_000);
    expect(connection.isOpen).toBe(false);
  });

  test('reads no more than it was told to', async () => {
    server.handler = (_request, response) => response.end(Buffer.alloc(1001));
    const connection = await connect();
    expect(await refusalOf(requestBytes(connection, get('/'), 1000))).toMatchObject({ reason: 'bad_answer' });
  });

  test.each([
    ['a problem', 403, JSON.stringify(problem()), { code: 'permission_denied', reason: 'node_banned' }],
    ['no problem document', 502, '<html>', { code: 'unavailable', reason: 'bad_answer' }],
  ])('throws what the server says: %s', async (_name, status, body, expected) => {
    server.handler = (_request, response) => {
      response.statusCode = status;
      response.end(body);
    };
    const connection = await connect();
    expect(await refusalOf(requestBytes(connection, get('/')))).toMatchObject(expected);
  });
});

describe('ServerConnection', () => {
  test('close() lets a running request end', async () => {
    const ends: (() => void)[] = [];
    server.handler = (_request, response) => {
      response.write('a');
      ends.push(() => response.end('b'));
    };
    const connection = await connect();
    const response = await connection.send(get('/'));
    connection.close();
    expect(connection.isOpen).toBe(false);
    ends[0]?.();
    expect((await readAnswer(response)).toString()).toBe('ab');
  });

  test('onClose() tells of the end, also where it is over', async () => {
    const connection = await connect();
    const told: string[] = [];
    connection.onClose(() => told.push('first'));
    connection.destroy();
    await waitUntil('it is told', () => told.length === 1);
    connection.onClose(() => told.push('second'));
    expect(told).toEqual(['first', 'second']);
  });
});

function problem() {
  return {
    type: 'about:blank',
    status: 403,
    title: 'permission denied',
    detail: 'Banned',
    code: 'permission_denied',
    reason: 'node_banned',
  };
}
