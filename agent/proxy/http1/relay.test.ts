import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import {
  connect,
  createServer as createTcpServer,
  type AddressInfo,
  type Server as TcpServer,
  type Socket,
} from 'node:net';
import { DECISION_REASONS, type DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import { systemClock, type Clock } from '../../../shared/runtime/clock.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { RecordBatch } from '../../audit/record-batch.ts';
import { STRANGERS } from '../connections/connections.ts';
import { FairTurns } from '../connections/fair-turns.ts';
import { Http1Relay } from './relay.ts';
import type { Judgement, Refusal } from '../judge/judge.ts';
import { RecordTurn } from '../records/record-turn.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { dialTcp, listenTcp, type TcpListener } from '../streams/tcp-stream.ts';

/** A relay between a real client and a real HTTP server on loopback, which denies what lies below /secret. */

const CERT_LINE = 'x-forwarded-client-cert: By=b;Hash=h;URI=spiffe://example.org/web\r\n';

function judgementOf(reason: keyof typeof DECISION_REASONS, message?: string): Judgement {
  const verdict = {
    isAllowed: reason === 'policy_allow',
    reason,
    message: message ?? DECISION_REASONS[reason].text,
    httpStatus: 403,
    policyVersion: 1,
    latencyUs: 1,
  };
  return { decisionId: randomUUID(), verdict };
}

class Rig {
  /** Whether the application may be asked on another connection. */
  isReachable = true;
  /** How much later it is for relays than it is. */
  passedMs = 0;
  readonly #clock: Clock = {
    ...systemClock,
    monotonicMs: () => systemClock.monotonicMs() + this.passedMs,
  };
  /** What waits for its record, where nothing is known to be kept. */
  held: (() => void)[] | undefined;
  readonly judged: DecisionHttpRequest[] = [];
  readonly refused: Refusal[] = [];
  readonly relays: Http1Relay[] = [];
  done = 0;
  applicationPort = 0;
  /** Whether records are kept. */
  isRoom = true;
  #batch = new RecordBatch();
  readonly #turn = new RecordTurn({
    commit: () => {
      if (this.isRoom) this.#batch.keep();
      this.#batch = new RecordBatch();
    },
  });
  readonly #listener: TcpListener;

  constructor() {
    this.#listener = listenTcp({
      address: '127.0.0.1',
      port: 0,
      onStream: (client) => {
        const openApplication = async (): Promise<ByteStream> =>
          await dialTcp({
            address: '127.0.0.1',
            port: this.applicationPort,
            mark: 0,
            timeoutMs: 2000,
            clock: systemClock,
          });
        const relay = new Http1Relay({
          client,
          openApplication,
          reopenApplication: this.isReachable ? openApplication : undefined,
          judge: (http) => {
            this.judged.push(http);
            if (http.path.startsWith('/secret')) return judgementOf('policy_deny');
            return { ...judgementOf('policy_allow'), batch: this.#batch };
          },
          whenKept: (batch, goOn) => {
            if (this.held === undefined) this.#turn.run(batch, goOn);
            else this.held.push(() => this.#turn.run(batch, goOn));
          },
          refuse: (refusal) => {
            this.refused.push(refusal);
            return judgementOf(refusal.reason, refusal.message);
          },
          endsIdle: false,
          clientCertLine: Buffer.from(CERT_LINE),
          turns: new FairTurns(systemClock),
          party: STRANGERS,
          clock: this.#clock,
          endsAtMs: Infinity,
          onDone: () => (this.done += 1),
        });
        this.relays.push(relay);
        relay.start(new Uint8Array(0));
      },
    });
  }

  get port(): number {
    return this.#listener.port;
  }

  stop(): void {
    this.#listener.stop();
  }
}

/** A client that sends bytes as they are and keeps what comes back. */
class RawClient {
  received = '';
  isEnded = false;
  readonly socket: Socket;

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.socket.on('data', (bytes) => (this.received += bytes.toString('latin1')));
    this.socket.on('end', () => (this.isEnded = true));
    this.socket.on('close', () => (this.isEnded = true));
    this.socket.on('error', () => (this.isEnded = true));
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, 'latin1'));
  }

  async until(text: string): Promise<string> {
    await waitUntil(`"${text}" came`, () => this.received.includes(text));
    return this.received;
  }

  /** How many answers have begun. */
  get answers(): number {
    return this.received.split('HTTP/1.1 ').length - 1;
  }
}

describe('Http1Relay', () => {
  let rig: Rig;
  let server: Server;
  let client: RawClient;
  let seen: IncomingMessage[];
  let bodies: string[];
  let answer: (request: IncomingMessage, response: ServerResponse) => void;

  beforeEach(async () => {
    seen = [];
    bodies = [];
    answer = (request, response) => response.end(`hello ${request.url}`);
    server = createServer((request, response) => {
      seen.push(request);
      let body = '';
      request.setEncoding('latin1');
      request.on('data', (text: string) => (body += text));
      request.on('end', () => {
        bodies.push(body);
        answer(request, response);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    rig = new Rig();
    rig.applicationPort = (server.address() as AddressInfo).port;
    client = new RawClient(rig.port);
  });
  afterEach(() => {
    client.socket.destroy();
    rig.stop();
    server.closeAllConnections();
    server.close();
  });

  const get = (path: string, more = ''): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n${more}\r\n`;

  test('passes an allowed request on, with the caller’s identity and without the one that the client made up', async () => {
    client.send(get('/invoices', 'X-Forwarded-Client-Cert: URI=spiffe://example.org/admin\r\n'));
    expect(await client.until('hello /invoices')).toStartWith('HTTP/1.1 200');
    expect(seen[0]?.headers['x-forwarded-client-cert']).toBe('By=b;Hash=h;URI=spiffe://example.org/web');
    expect(rig.judged[0]).toMatchObject({ method: 'GET', path: '/invoices', host: 'a' });
  });

  test('answers a denied request itself; the application never sees it and the connection goes on', async () => {
    client.send(get('/secret'));
    const received = await client.until('\r\n\r\n{');
    expect(received).toStartWith('HTTP/1.1 403 Forbidden\r\n');
    await client.until('}\n');
    expect(JSON.parse(client.received.slice(client.received.indexOf('{')))).toMatchObject({
      reason: 'policy_deny',
    });
    expect(seen).toHaveLength(0);
    client.send(get('/open'));
    await client.until('hello /open');
  });

  test('passes nothing on whose record is not kept, and says so', async () => {
    rig.isRoom = false;
    client.send(`POST /unrecorded HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello${get('/more')}`);
    await client.until('audit_unavailable');
    await waitUntil('the connection ended', () => client.isEnded);
    expect(rig.refused).toMatchObject([{ reason: 'audit_unavailable', http: { path: '/unrecorded' } }]);
    expect([seen.length, client.answers, rig.judged.length]).toEqual([0, 1, 1]);
  });

  test('answers a client that ends its side together with its request', async () => {
    client.socket.end('POST /all HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello');
    await client.until('hello /all');
    expect(bodies).toEqual(['hello']);
    await waitUntil('the connection ended', () => client.isEnded);
  });

  test('decides pipelined requests one by one and answers them in turn', async () => {
    client.send(get('/a') + get('/secret') + get('/b') + get('/secret/2') + get('/c'));
    await client.until('hello /c');
    expect(client.received.match(/hello \/[abc]|policy_deny/g)).toEqual([
      'hello /a',
      'policy_deny',
      'hello /b',
      'policy_deny',
      'hello /c',
    ]);
    expect(seen.map((request) => request.url)).toEqual(['/a', '/b', '/c']);
  });

  test('relays bodies by length and by chunks, with trailers, in pieces of any size', async () => {
    const chunked =
      'POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n';
    const length = 'POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world';
    for (const byte of chunked + length) client.send(byte);
    await client.until('hello /l');
    expect(bodies).toEqual(['hello world', 'hello world']);
  });

  test('reads away the small body of a denied request, and ends the connection of a long one', async () => {
    client.send('POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /' + get('/open'));
    await client.until('hello /open');
    expect(seen.map((request) => request.url)).toEqual(['/open']);
    client.send('POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n');
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).toContain('connection: close');
  });

  test('passes 100 Continue on, and ends after a denied request that expects it', async () => {
    client.send('POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n');
    await client.until('100 Continue');
    client.send('ok');
    await client.until('hello /c');
    client.send('POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n');
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).toContain('403 Forbidden');
  });

  test('keeps answers to HEAD, 204 and 304 apart from what follows', async () => {
    answer = (request, response) => {
      if (request.url === '/204') response.writeHead(204).end();
      else if (request.url === '/304') response.writeHead(304).end();
      else response.setHeader('content-length', '9').end('hello end');
    };
    client.send('HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n' + get('/204') + get('/304') + get('/x'));
    await client.until('hello end');
    expect(client.answers).toBe(4);
  });

  test('carries a large answer whole to a client that reads slowly', async () => {
    const big = Buffer.alloc(8 * 1024 * 1024, 'x');
    answer = (_request, response) => response.end(big);
    client.socket.pause();
    client.send(get('/big', 'Connection: close\r\n'));
    await waitUntil('the request was seen', () => seen.length === 1);
    client.socket.resume();
    await waitUntil('everything came', () => client.isEnded);
    expect(client.received.length - client.received.indexOf('\r\n\r\n') - 4).toBe(big.length);
  });

  test.each([
    [
      'Content-Length and Transfer-Encoding',
      'POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['two lengths', 'POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd'],
    ['an odd length', 'POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nabcd'],
    ['bare line feeds', 'GET /a HTTP/1.1\nHost: a\n\n'],
    ['one bare line feed', 'GET /a HTTP/1.1\r\nHost: a\nX: y\r\n\r\n'],
    ['a folded field', 'GET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n'],
    ['two hosts', 'GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'],
    ['no host', 'GET /a HTTP/1.1\r\n\r\n'],
    ['a tunnel', 'CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n'],
    ['dot segments', 'GET /open/../secret HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['an empty line first', '\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['no HTTP at all', 'hello there\r\n\r\n'],
  ])('refuses %s with 400; the application never sees it', async (_name, bytes) => {
    client.send(bytes);
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).toStartWith('HTTP/1.1 400 ');
    expect(rig.refused).toMatchObject([{ reason: 'protocol_error' }]);
    expect(seen).toHaveLength(0);
  });

  test('refuses a head that is too long with 431', async () => {
    client.send(`GET /a HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(70_000)}\r\n\r\n`);
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).toStartWith('HTTP/1.1 431 ');
  });

  test('resets the client when a body that is under way turns out to be malformed', async () => {
    client.send('POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n');
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).toBe('');
    await waitUntil('the relay is done', () => rig.done === 1);
  });

  test('says 502 when the application cannot be reached', async () => {
    rig.applicationPort = 1;
    client.send(get('/a'));
    await client.until('application_unreachable');
    expect(client.received).toStartWith('HTTP/1.1 502 ');
  });

  test('ends when the client ends, after its answers', async () => {
    client.send(get('/a') + get('/b'));
    client.socket.end();
    await client.until('hello /b');
    await waitUntil('the connection ends', () => client.isEnded && rig.done === 1);
  });

  test('cuts a request that is under way', async () => {
    answer = (_request, response) => response.write('begun');
    client.send(get('/a'));
    await client.until('begun');
    expect(rig.relays[0]?.current).toMatchObject({ path: '/a' });
    rig.relays[0]?.cut({ message: 'lost its permit' });
    await waitUntil('the connection ends', () => client.isEnded && rig.done === 1);
  });
});

describe('Http1Relay before an application that does not behave', () => {
  let rig: Rig;
  let application: TcpServer;
  let client: RawClient;
  let respond: (socket: Socket) => void;

  beforeEach(async () => {
    application = createTcpServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => respond(socket));
    });
    await new Promise<void>((resolve) => application.listen(0, '127.0.0.1', resolve));
    rig = new Rig();
    rig.applicationPort = (application.address() as AddressInfo).port;
    client = new RawClient(rig.port);
  });
  afterEach(() => {
    client.socket.destroy();
    rig.stop();
    application.close();
  });
  const get = 'GET /a HTTP/1.1\r\nHost: a\r\n\r\n';

  test('relays an answer that ends with the connection', async () => {
    respond = (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\nuntil the end');
    client.send(get);
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).toEndWith('until the end');
  });

  test.each([
    ['ends before its answer', (socket: Socket) => socket.end()],
    ['resets', (socket: Socket) => socket.resetAndDestroy()],
    ['answers no HTTP', (socket: Socket) => socket.write('220 mail ready\r\n\r\n')],
    [
      'answers in two ways',
      (socket: Socket) =>
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n'),
    ],
    [
      'upgrades unasked',
      (socket: Socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n'),
    ],
  ])('says 502 when it %s', async (_name, how) => {
    respond = how;
    client.send(get);
    await waitUntil('there is an end', () => client.isEnded);
    expect(client.received).toStartWith('HTTP/1.1 502 ');
    expect(client.received).toContain('application_unreachable');
  });

  /** Answers one request on each connection, and does something else with the second. */
  function answerOnce(second: (socket: Socket) => unknown): Socket[] {
    const asked: Socket[] = [];
    respond = (socket) => {
      asked.push(socket);
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst');
      socket.once('data', () => void second(socket));
    };
    return asked;
  }

  test.each([
    ['ends', (socket: Socket): unknown => socket.end()],
    ['resets', (socket: Socket): unknown => socket.resetAndDestroy()],
  ])(
    'asks it again on another connection when it %s one that it may have had for idle',
    async (_name, how) => {
      const asked = answerOnce(how);
      client.send(get);
      await client.until('first');
      client.send(get);
      await waitUntil('there is another answer', () => client.answers === 2);
      expect(client.received).not.toContain('502');
      expect([asked.length, rig.judged.length, rig.refused.length]).toEqual([2, 2, 0]);
      client.send(get);
      await waitUntil('the connection goes on', () => client.answers === 3);
    },
  );

  test.each([
    ['what it has begun to answer', get, (socket: Socket): unknown => socket.end('HTTP/1.1 2')],
    ['what is not safe', 'DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n', (socket: Socket) => socket.end()],
    [
      'what has a body',
      'GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb',
      (socket: Socket) => socket.end(),
    ],
  ])('does not ask it again for %s', async (_name, request, how) => {
    const asked = answerOnce(how);
    client.send(get);
    await client.until('first');
    client.send(request);
    await waitUntil('the connection ends', () => client.isEnded);
    expect([client.answers, asked.length]).toEqual([2, 1]);
    expect(client.received).toContain('HTTP/1.1 502 ');
  });

  test.each([
    ['leaves a connection a second before it would end it as idle', 4100, 2],
    ['goes on with a connection that it keeps for longer', 3800, 1],
  ])('%s, by its own word', async (_, idleMs, connections) => {
    const asked: Socket[] = [];
    respond = (socket) => {
      asked.push(socket);
      const answer = (): unknown =>
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5, max=10\r\n\r\nok');
      answer();
      // By the clock of the relays it ends as the request comes, or is far from that.
      socket.on('data', () => (rig.passedMs > 4000 ? socket.end() : answer()));
    };
    client.send(get);
    await client.until('ok');
    rig.passedMs = idleMs;
    client.send('POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody');
    await waitUntil('there is another answer', () => client.answers === 2);
    expect(client.received).not.toContain('502');
    expect(asked.length).toBe(connections);
    client.send(get);
    await waitUntil('the connection goes on', () => client.answers === 3 || client.isEnded);
  });

  test('does not ask it again where it is asked on one connection alone', async () => {
    rig.isReachable = false;
    const asked = answerOnce((socket) => socket.end());
    const sole = new RawClient(rig.port);
    sole.send(get);
    await sole.until('first');
    sole.send(get);
    await sole.until('HTTP/1.1 502 ');
    expect(asked).toHaveLength(1);
    sole.socket.destroy();
  });

  test('says 502 when it is gone altogether', async () => {
    answerOnce((socket) => {
      application.close();
      socket.end();
    });
    client.send(get);
    await client.until('first');
    client.send(get);
    await client.until('HTTP/1.1 502 ');
    expect(rig.refused.at(-1)?.message).toContain('ECONNREFUSED');
  });

  test('sends it what waits for its record when it closes an idle connection, whatever that is', async () => {
    const closing = Promise.withResolvers<Socket>();
    let isFirst = true;
    respond = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n' + (isFirst ? 'idle' : 'next'));
      if (isFirst) closing.resolve(socket);
      isFirst = false;
    };
    client.send(get);
    await client.until('idle');
    const held: (() => void)[] = (rig.held = []);
    client.send('POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody');
    await waitUntil('it is decided', () => rig.judged.length === 2);
    const socket = await closing.promise;
    socket.end();
    await waitUntil('the relay has let go of it', () => socket.closed);
    for (const goOn of held) goOn();
    await client.until('next');
    expect(rig.refused).toEqual([]);
  });

  test('breaks off an answer that it breaks off', async () => {
    respond = (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort');
    client.send(get);
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).not.toContain('502');
  });

  test('closes when it answers more than was asked', async () => {
    respond = (socket) => {
      socket.write(
        'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged',
      );
    };
    client.send(get);
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).not.toContain('forged');
  });

  test('gives a request that waits no answer that stood there before it was asked', async () => {
    respond = (socket) => {
      socket.write(
        'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged',
      );
    };
    client.send(get + get);
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).not.toContain('forged');
    expect(rig.judged).toHaveLength(1);
  });

  test('brings it the rest of a body that it has answered already, and then the next request', async () => {
    const end = 'the end of it';
    respond = (socket) => {
      let seen = '';
      socket.write('HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nearly');
      socket.on('data', (bytes) => {
        seen += bytes.toString();
        if (seen.startsWith(`${end}GET /a`)) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext');
      });
    };
    client.send(`POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: ${end.length}\r\n\r\n`);
    await client.until('early');
    client.send(end + get);
    await client.until('next');
    expect(rig.judged.map(({ method }) => method)).toEqual(['POST', 'GET']);
  });

  test.each([
    ['ends', (socket: Socket): unknown => socket.end()],
    ['resets', (socket: Socket): unknown => socket.resetAndDestroy()],
  ])('ends after an early answer when it %s, and the client has all of the answer', async (_name, leave) => {
    respond = (socket) => {
      socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\ntoo much');
      // A reset would void what the relay has not read.
      void client.until('too much').then(() => leave(socket));
    };
    client.send('POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin');
    await waitUntil('the connection ends', () => client.isEnded);
    expect(client.received).toEndWith('too much');
    client.socket.end();
    await waitUntil('the relay is done', () => rig.done === 1);
  });

  test('carries what follows an agreed upgrade as bytes, both ways', async () => {
    respond = (socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nfirst ');
      socket.on('data', (bytes) => socket.write(bytes));
    };
    client.send('GET /e HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n');
    await client.until('first ');
    client.send('GET /secret HTTP/1.1\r\n\r\n');
    await client.until('first GET /secret HTTP/1.1\r\n\r\n');
    expect(rig.judged).toHaveLength(1);
  });
});
