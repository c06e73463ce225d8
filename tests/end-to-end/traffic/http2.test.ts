import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HTTP2_ERROR } from '../../../shared/wire/http2-frame.ts';
import { decisionsBelow } from '../../kit/access-records.ts';
import { Child } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { asUser, isListening } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import { readMemory, resetPeak } from './process-memory.ts';
import { python, pythonService, TrafficMesh, type Service } from './traffic-mesh.ts';

/** HTTP/2 as programs really speak it, unmodified: curl, nghttp2's server and load generator, gRPC's C core at both ends; and a client that keeps to no rule. */

setDefaultTimeout(60_000);

const FILES_PORT = 7400;
const GRPC_PORT = 7401;
const FILES_USER = 7241;
const MIB = 1024 * 1024;
const LARGE_BYTES = 100 * MIB;
/**
 * By how much the agent of the called side may grow meanwhile under a client that does not read: half a million requests, of which 30,000 to 60,000
 * are refused and recorded before all that stands between both is full. Their garbage was 50 to 130 MiB at its highest.
 */
const MAX_PEAK = 256 * MIB;
/** What of it may stay. */
const MAX_GROWTH = 64 * MIB;
let traffic: TrafficMesh;
let files: string;
let large: Buffer;

/** nghttpd serves `files`, and gives back what is uploaded. It writes down every frame. */
const fileService: Service = {
  path: '/files',
  selectors: [`unix:uid:${FILES_USER}`],
  listen: [`${FILES_PORT}/http`],
  async start(host: TestHost, into: string): Promise<Child> {
    // Windows that do not make the test wait for every 64 KiB.
    const windows = ['-w', '24', '-W', '24'];
    const options = ['--no-tls', '--echo-upload', '-v', ...windows, '-d', files, String(FILES_PORT)];
    const child = new Child({
      command: host.in(...asUser(FILES_USER, 'nghttpd', ...options)),
      logFile: join(into, 'nghttpd.log'),
      cwd: '/',
    });
    await child.ready('nghttpd listens', async () => await isListening(host, FILES_PORT));
    return child;
  },
};

beforeAll(async () => {
  files = mkdtempSync(join(tmpdir(), 'picket-http2-'));
  chmodSync(files, 0o755);
  large = randomBytes(LARGE_BYTES);
  writeFileSync(join(files, 'large'), large);
  writeFileSync(join(files, 'small'), 'small\n');
  mkdirSync(join(files, 'out'), { mode: 0o777 });
  chmodSync(join(files, 'out'), 0o777);
  const attacker = await Bun.build({
    entrypoints: [join(import.meta.dirname, 'programs/http2-attacker.ts')],
    target: 'bun',
  });
  writeFileSync(join(files, 'attacker.js'), (await attacker.outputs[0]?.text()) ?? '');
  copyFileSync(process.execPath, join(files, 'bun'));
  chmodSync(join(files, 'bun'), 0o755);
  const grpc = pythonService({
    path: '/orders',
    uid: 7242,
    listen: [String(GRPC_PORT)],
    program: 'grpc-service.py',
    args: [String(GRPC_PORT)],
  });
  traffic = await TrafficMesh.open({
    services: [fileService, grpc],
    // The flood of refusals is not to keep the records of what comes after it waiting.
    serverSettings: { audit: { denials_per_second: null } },
    isOpen: async (open) => {
      const asks = [FILES_PORT, GRPC_PORT].map((port) => `http://${open.store.host.ipv4}:${port}/small`);
      const answers = await Promise.all(
        asks.map(
          async (ask) =>
            (
              await open.asCaller([
                'curl',
                '-s',
                '--http2-prior-knowledge',
                '-o',
                '/dev/null',
                '-w',
                '%{http_code}',
                ask,
              ])
            ).stdout,
        ),
      );
      return answers[0] === '200' && answers[1] === '200';
    },
  });
}, 120_000);
afterAll(async () => {
  await traffic?.close();
  rmSync(files, { recursive: true, force: true });
});

const url = (path: string): string => `http://${traffic.store.host.ipv4}:${FILES_PORT}${path}`;
const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function curl(...args: readonly string[]): Promise<string> {
  const command = ['curl', '-sS', '--max-time', '80', '--http2-prior-knowledge', ...args];
  const { stdout, stderr } = await traffic.asCaller(command, { withinMs: 90_000 });
  return stdout + stderr;
}

/** What the gRPC client printed last. */
async function grpcClient(what: string): Promise<unknown> {
  const target = `${traffic.store.host.ipv4}:${GRPC_PORT}`;
  const { stdout, stderr } = await traffic.asCaller(python('grpc-client.py', target, what));
  return JSON.parse(stdout.trim().split('\n').at(-1) || JSON.stringify({ stderr }));
}

async function attack(what: string): Promise<unknown> {
  const command = [
    join(files, 'bun'),
    join(files, 'attacker.js'),
    traffic.store.host.ipv4,
    String(FILES_PORT),
    what,
  ];
  const { stdout, stderr } = await traffic.asCaller(command, { withinMs: 110_000 });
  return JSON.parse(stdout.trim() || JSON.stringify({ stderr }));
}

describe('curl', () => {
  test('is decided request by request, and told why it is refused', async () => {
    // Each with a connection of its own: Debian's curl fails at the second request of one, with every server.
    const ask = async (path: string): Promise<readonly string[]> =>
      (await curl('-w', String.raw`%{http_version} %{http_code}\n`, url(path))).split('\n');
    expect(await ask('/small')).toEqual(['small', '2 200', '']);
    const [json = '', denied] = await ask('/refused/x?token=secret');
    expect(denied).toBe('2 403');
    const body = JSON.parse(json) as { readonly decision_id: string };
    expect(body).toMatchObject({ error: 'denied', reason: 'policy_deny' });
    const records = await waitUntil('the record is at the server', async () => {
      const found = await decisionsBelow(traffic.mesh.control, 'spiffe://example.org/files', '/refused/x');
      return found.length > 0 && found;
    });
    expect(records).toMatchObject([
      {
        decision_id: body.decision_id,
        protocol: 'http',
        method: 'GET',
        path: '/refused/x?token=*',
        decision: 'deny',
        reason: 'policy_deny',
      },
    ]);
    expect(traffic.service('/files').log()).not.toContain('/refused');
  });

  test('carries 100 MB each way, whole', async () => {
    const out = join(files, 'out/got');
    expect(await curl('-w', '%{http_version} %{http_code}', '-o', out, url('/large'))).toBe('2 200');
    expect(hashOf(readFileSync(out))).toBe(hashOf(large));
    const echo = join(files, 'out/echo');
    const upload = ['-T', join(files, 'large'), '-o', echo, '-w', '%{http_version} %{http_code}'];
    expect(await curl(...upload, url('/echo'))).toBe('2 200');
    expect(hashOf(readFileSync(echo))).toBe(hashOf(large));
  }, 180_000);

  test('hears nothing else when it offers HTTP/2 within HTTP/1.1', async () => {
    const { stdout } = await traffic.asCaller([
      'curl',
      '-sS',
      '--http2',
      '-w',
      '%{http_version}',
      url('/refused/y'),
    ]);
    expect(stdout).toEndWith('1.1');
    expect(stdout).toContain('policy_deny');
  });
});

describe('many streams at once', () => {
  test('are answered, the refused ones among them, on connections that go on', async () => {
    const urls = [url('/small'), url('/refused/many')];
    const { stdout } = await traffic.asCaller(['h2load', '-n', '4000', '-c', '8', '-m', '50', ...urls]);
    expect(stdout).toContain(
      '4000 total, 4000 started, 4000 done, 2000 succeeded, 2000 failed, 0 errored, 0 timeout',
    );
    expect(stdout).toContain('status codes: 2000 2xx, 0 3xx, 2000 4xx, 0 5xx');
  });
});

describe('gRPC', () => {
  test('carries metadata both ways, with the identity that was proved, and errors with their details', async () => {
    const told = await grpcClient('unary');
    expect(told).toEqual({
      seen: expect.objectContaining({ 'x-name': 'value' }) as object,
      trailers: { 'x-trailer': 'behind', 'x-trailer-bin': '00ff' },
      error: { code: 'NOT_FOUND', details: 'no such order: 100% sure', trailers: {} },
    });
    const { seen } = told as { readonly seen: Readonly<Record<string, string>> };
    expect(seen['x-forwarded-client-cert']).toMatch(
      /^By=spiffe:\/\/example\.org\/orders;Hash=[0-9a-f]{64};URI=spiffe:\/\/example\.org\/caller$/,
    );
  });

  test('streams 64 MiB each way, and both ways at once', async () => {
    expect(await grpcClient('streams')).toEqual({
      got: 64 * MIB,
      sent: 64 * MIB,
      answers: ['cba', 'fed'],
      end: 'OK',
    });
  });

  test('is refused call by call, with bodies on their way, among calls that go on', async () => {
    expect(await grpcClient('refusals')).toEqual({
      refused: ['PERMISSION_DENIED no rule of the policy allows it'],
      reasons: ['policy_deny'],
      ids: 100,
      allowed: 100,
    });
  });

  test('hears of a call that is given up', async () => {
    expect(await grpcClient('cancel')).toEqual({ after: true });
    await waitUntil('the service hears of it', () =>
      traffic.service('/orders').log().includes('over given-up'),
    );
  });
});

describe('a client that keeps to no rule', () => {
  test('cannot say who it is, in header fields or trailers', async () => {
    expect(await attack('forge')).toMatchObject({ status: expect.any(String) as string });
    const log = await waitUntil('nghttpd has the trailers', () => {
      const text = traffic.service('/files').log();
      return text.includes('x-sum: 5') && text;
    });
    const request = log.slice(log.indexOf('/forged'));
    expect(request).toMatch(/x-forwarded-client-cert: By=\S+;URI=spiffe:\/\/example\.org\/caller/);
    expect(request).not.toContain('admin');
    expect(log).not.toContain('x_forwarded_client_cert');
  });

  test('gets nothing through behind the end of a body', async () => {
    const told = { error: HTTP2_ERROR.protocol_error, isClosed: false };
    expect(await attack('body-too-long')).toEqual(told);
    const log = await waitUntil('nghttpd has the end of the stream', () => {
      const text = traffic.service('/files').log();
      const at = text.indexOf('/longer');
      return at >= 0 && text.includes('CANCEL', at) && text.slice(at);
    });
    const [before] = log.split('CANCEL');
    expect(before?.match(/recv DATA frame <length=\d+/g)).toEqual(['recv DATA frame <length=5']);
  });

  test.each(['continuation-flood', 'rapid-reset'])('is cut off for a %s', async (what) => {
    expect(await attack(what)).toEqual({ isClosed: true, error: HTTP2_ERROR.enhance_your_calm });
  });

  test('gets back the window of bodies that nobody wants', async () => {
    expect(await attack('window-credit')).toEqual({ credit: 3 * 16_384 + 100, statuses: ['403', '200'] });
  });

  test('is not read while it reads nothing, and the agent does not grow', async () => {
    const { pid } = traffic.store;
    resetPeak(pid);
    const before = readMemory(pid).residentBytes;
    expect(await attack('non-reader')).toMatchObject({ requests: expect.any(Number) as number });
    expect(readMemory(pid).peakBytes - before).toBeLessThan(MAX_PEAK);
    await waitUntil('what it took is given back', () => readMemory(pid).residentBytes - before < MAX_GROWTH);
    expect(await curl(url('/small'))).toBe('small\n');
  }, 120_000);
});

describe('another policy', () => {
  test('cuts the calls that it does not allow, in flight, and no other on their connection', async () => {
    const target = `${traffic.store.host.ipv4}:${GRPC_PORT}`;
    const caller = traffic.startCaller('grpc-hold', python('grpc-client.py', target, 'hold'));
    await waitUntil('both calls are open', () => caller.log().includes('open'));
    const folder = join(files, 'policy');
    mkdirSync(folder);
    writeFileSync(
      join(folder, 'policy.rego'),
      `package picket.authz

default allow := false

allow if input.request.parsed_path[1] != "Chat"
`,
    );
    await traffic.mesh.control.picketOk('policy', 'publish', folder, '-m', 'no chats');
    await waitUntil('the call is cut', () => !caller.isRunning);
    expect(JSON.parse(caller.log().trim().split('\n').at(-1) ?? '')).toEqual({
      first: 'olleh',
      cut: 'CANCELLED',
      kept: 2000,
    });
    await waitUntil('the service hears of it', () => traffic.service('/orders').log().includes('over cut'));
    const cut = await waitUntil('the cut is in the record', async () => {
      const found = await decisionsBelow(
        traffic.mesh.control,
        'spiffe://example.org/orders',
        '/shop.Orders/Chat',
      );
      return found.find(({ decision }) => decision === 'deny');
    });
    expect(cut).toMatchObject({ method: 'POST', reason: 'policy_deny' });
  });
});
