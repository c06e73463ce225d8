import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, run } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { asUser, isListening } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import { CALLER_USER, python, pythonService, TrafficMesh, type Service } from './traffic-mesh.ts';

/** HTTP/1.1 as programs really speak it, through a relay that decides every request: Python's own server, curl, and Bun's WebSockets at both ends. */

setDefaultTimeout(60_000);

const WEB_PORT = 8080;
const SOCKET_PORT = 8090;
/** Registered as HTTP: nothing is found out, everything must be requests. */
const SOCKET_HTTP_PORT = 8091;
const SOCKET_USER = 7212;
let traffic: TrafficMesh;
let folder: string;

/** The command that runs a program in a Bun that every user can read; the program goes by argument. */
function bun(into: string, program: string, ...args: readonly string[]): readonly string[] {
  const executable = join(into, 'bun');
  if (!existsSync(executable)) copyFileSync(process.execPath, executable);
  chmodSync(executable, 0o755);
  return [executable, '-e', readFileSync(join(import.meta.dirname, 'programs', program), 'utf8'), ...args];
}

function webSocketService(path: string, port: number, listen: string): Service {
  const start = async (host: TestHost, into: string): Promise<Child> => {
    const child = new Child({
      command: host.in(...asUser(SOCKET_USER, ...bun(into, 'web-socket-server.ts', String(port)))),
      logFile: join(into, `${path.slice(1)}.log`),
      cwd: '/',
    });
    await child.ready(`${path} listens`, async () => await isListening(host, port));
    return child;
  };
  return { path, selectors: [`unix:uid:${SOCKET_USER}`], listen: [listen], start };
}

beforeAll(async () => {
  const web = pythonService({
    path: '/web',
    uid: 7211,
    listen: [String(WEB_PORT)],
    program: 'http-application.py',
    args: [String(WEB_PORT)],
  });
  const socket = webSocketService('/socket', SOCKET_PORT, String(SOCKET_PORT));
  const socketHttp = webSocketService('/socket-http', SOCKET_HTTP_PORT, `${SOCKET_HTTP_PORT}/http`);
  traffic = await TrafficMesh.open({
    services: [web, socket, socketHttp],
    isOpen: async (open) => {
      const urls = [WEB_PORT, SOCKET_PORT, SOCKET_HTTP_PORT].map(
        (port) => `http://${open.store.host.ipv4}:${port}/number/1`,
      );
      const asks = urls.flatMap((each) => ['-o', '/dev/null', each]);
      const { stdout } = await open.asCaller(['curl', '-s', '-w', '%{http_code} ', ...asks]);
      return stdout.trim() === '200 426 426';
    },
  });
  ({ folder } = traffic);
}, 120_000);
afterAll(async () => await traffic?.close());

const url = (path: string, host = traffic.store.host.ipv4): string => `http://${host}:${WEB_PORT}${path}`;

/** What curl wrote by `-w`, or the body. */
async function curl(...args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await traffic.asCaller(['curl', '-sS', '--max-time', '30', ...args]);
  return stdout + stderr;
}

async function sendRaw(bytes: string, then: 'end' | 'stay' | 'late'): Promise<string> {
  const command = python('raw-http.py', traffic.store.host.ipv4, String(WEB_PORT), then);
  const inside = traffic.desk.host.in(...asUser(CALLER_USER, ...command));
  return (await run(inside, { cwd: '/', stdin: bytes })).stdout;
}

/** The lines that the application printed for paths that begin with this. */
function seenByWeb(prefix: string): readonly string[] {
  return traffic
    .service('/web')
    .log()
    .split('\n')
    .filter((line) => line.includes(` ${prefix}`));
}

/** Statuses and bodies of answers that follow each other on one connection. */
function answersIn(text: string): readonly (readonly [status: string, body: string])[] {
  return text
    .split(/^(?=HTTP\/1\.1 )/m)
    .map((answer) => [answer.slice(9, 12), answer.slice(answer.indexOf('\r\n\r\n') + 4)] as const);
}

function writeBody(name: string, bytes: number): { readonly path: string; readonly sha256: string } {
  const body = randomBytes(bytes);
  const path = join(folder, name);
  writeFileSync(path, body);
  chmodSync(path, 0o644);
  return { path, sha256: createHash('sha256').update(body).digest('hex') };
}

describe('requests on one connection', () => {
  test('go on by the hundred, and the application sees one connection too', async () => {
    const args = ['-w', '%{http_code} %{num_connects},', '-o', '/dev/null', url('/number/kept[1-200]')];
    const connects = (await curl(...args)).split(',').slice(0, -1);
    expect(connects).toHaveLength(200);
    expect(connects[0]).toBe('200 1');
    expect(new Set(connects.slice(1))).toEqual(new Set(['200 0']));
    const connections = seenByWeb('/number/kept').map((line) => line.split(' ')[0]);
    expect(connections).toHaveLength(200);
    expect(new Set(connections).size).toBe(1);
  });

  test('that come all at once are answered one by one in their order, the refused ones among them', async () => {
    const paths = Array.from({ length: 100 }, (_, i) =>
      i % 7 === 3 ? `/refused/${i}` : `/number/piped${i}`,
    );
    const requests = paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: shop\r\n\r\n`).join('');
    const answers = answersIn(await sendRaw(requests, 'end'));
    expect(answers.map(([status]) => status)).toEqual(
      paths.map((path) => (path.startsWith('/refused') ? '403' : '200')),
    );
    const bodies = answers.map(([status, body]) => (status === '403' ? 'refused' : body));
    expect(bodies).toEqual(paths.map((path, i) => (path.startsWith('/refused') ? 'refused' : `piped${i}\n`)));
    expect(seenByWeb('/refused')).toEqual([]);
  });

  test('with bodies that come all at once are kept apart', async () => {
    const lengths = [0, 1, 70_000, 3, 200_000, 5];
    const requests = lengths.map((length, i) =>
      i % 2 === 0
        ? `POST /late HTTP/1.1\r\nHost: shop\r\nContent-Length: ${length}\r\n\r\n${'x'.repeat(length)}`
        : `POST /late HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n${length.toString(16)}\r\n${'x'.repeat(length)}\r\n0\r\n\r\n`,
    );
    const answers = answersIn(await sendRaw(requests.join(''), 'end'));
    expect(answers).toEqual(lengths.map((length) => ['200', `${length}\n`]));
  });

  test('of a client that has ended its side are answered to the end, however slowly', async () => {
    const requests = ['/slowly', '/number/last'].map((path) => `GET ${path} HTTP/1.1\r\nHost: shop\r\n\r\n`);
    const [slow, last] = answersIn(await sendRaw(requests.join(''), 'end'));
    expect(slow?.[1].match(/piece/g)).toHaveLength(8);
    expect(last).toEqual(['200', 'last\n']);
  });

  test.each([
    ['a denial', 'GET /refused/late HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n', '403'],
    ['what is no request', 'GET /number/1 HTTP/1.1\r\n\r\n', '400'],
  ])(
    'behind which %s ends the connection are answered whole, though the client reads late',
    async (...refused) => {
      const [, request, status] = refused;
      const answers = answersIn(await sendRaw(`GET /large HTTP/1.1\r\nHost: shop\r\n\r\n${request}`, 'late'));
      expect(answers.map(([each]) => each)).toEqual(['200', status]);
      expect(answers[0]?.[1]).toHaveLength(4 << 20);
    },
  );
});

describe('a body in chunks', () => {
  test.each(['ipv4', 'ipv6'] as const)('goes both ways at once over %s, with its trailer', async (family) => {
    const { path, sha256 } = writeBody(`chunks-${family}`, 32 << 20);
    const host = family === 'ipv6' ? `[${traffic.store.host.ipv6}]` : traffic.store.host.ipv4;
    const echo = join(folder, `echo-${family}`);
    writeFileSync(echo, '');
    chmodSync(echo, 0o666);
    const heads = await curl(
      '-T',
      path,
      '-X',
      'POST',
      '-H',
      'Transfer-Encoding: chunked',
      '-D',
      '-',
      '-o',
      echo,
      url('/echo', host),
    );
    expect(heads).toContain(`X-Hash: ${sha256}`);
    expect(createHash('sha256').update(readFileSync(echo)).digest('hex')).toBe(sha256);
  });
});

describe('a client that waits for 100 Continue', () => {
  /** Without 100 it would send its body after a minute, which is too late. */
  const WAITS = ['-H', 'Expect: 100-continue', '--expect100-timeout', '60'];

  test('gets it from the application, and then its answer', async () => {
    const { path } = writeBody('expected', 3 << 20);
    expect(await curl(...WAITS, '-X', 'POST', '-T', path, url('/late'))).toBe(`${3 << 20}\n`);
    expect(traffic.service('/web').log()).toContain('continue /late');
  });

  test('is refused before it has sent a byte of the body, and the application hears of nothing', async () => {
    const { path } = writeBody('unwanted', 3 << 20);
    const args = [
      '-w',
      '%{http_code} %{size_upload}',
      '-o',
      '/dev/null',
      '-T',
      path,
      url('/refused/expected'),
    ];
    expect(await curl(...WAITS, ...args)).toBe('403 0');
    expect(traffic.service('/web').log()).not.toContain('/refused');
  });
});

describe('a WebSocket', () => {
  const connect = async (address: string): Promise<string> => {
    const { stdout, stderr } = await traffic.asCaller(bun(folder, 'web-socket-client.ts', address));
    return stdout + stderr;
  };

  test.each([
    ['a protocol that is found out', SOCKET_PORT, 'ipv4'],
    ['HTTP', SOCKET_HTTP_PORT, 'ipv4'],
    ['HTTP', SOCKET_HTTP_PORT, 'ipv6'],
  ] as const)('works both ways by %s (port %d, %s), and its close arrives', async (_name, port, family) => {
    const { ipv4, ipv6 } = traffic.store.host;
    const host = family === 'ipv6' ? `[${ipv6}]` : ipv4;
    expect(JSON.parse(await connect(`ws://${host}:${port}/echo`))).toEqual({
      first: 'welcome',
      texts: 200,
      inOrder: true,
      echoed: true,
      code: 4001,
      reason: 'enough',
    });
    const path = port === SOCKET_PORT ? '/socket' : '/socket-http';
    await waitUntil('the server saw the close', () =>
      traffic.service(path).log().includes('closed 4001 enough'),
    );
  });

  test('that the policy refuses is never opened', async () => {
    const told = JSON.parse(
      await connect(`ws://${traffic.store.host.ipv4}:${SOCKET_PORT}/refused`),
    ) as object;
    expect(told).toMatchObject({ texts: -1, code: 1006 });
  });
});
