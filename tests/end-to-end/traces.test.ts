import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { accessPage } from '../../shared/protocol/operator.ts';
import { run, type Child } from '../kit/child.ts';
import { asUser, startNginx, type CurlAnswer } from '../kit/programs.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { attributesOf, KIND, SpanReceiver, TRACES, type ReceivedSpan } from '../kit/traces/span-receiver.ts';
import { waitUntil } from '../kit/wait.ts';

/** Traces by the compiled binary: what the application gets of a request's trace, and what the receivers get of requests and connections. */

setDefaultTimeout(120_000);

const { web, reports, nobody } = SHOP_USERS;
const HTTP2_PORT = 8080;
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT_SPAN = 'b7ad6b7169203331';
const PARENT = `00-${TRACE}-${PARENT_SPAN}-01`;

let shop: Shop;
let receiver: SpanReceiver;
/** On the calling side. */
let deskReceiver: SpanReceiver;
let nginx: Child;

beforeAll(async () => {
  shop = await Shop.open({ settings: { traces: TRACES } });
  receiver = await SpanReceiver.start(shop.store.host, shop.folder);
  deskReceiver = await SpanReceiver.start(shop.desk.host, shop.folder);
  nginx = await startNginx(shop.store.host, {
    folder: join(shop.folder, 'nginx-2'),
    listen: [`${HTTP2_PORT} http2`],
    locations: 'location / { default_type text/plain; return 200 "$http_traceparent;$http_tracestate\\n"; }',
  });
  await shop.mesh.register({
    path: '/h2',
    on: shop.store,
    selectors: ['unix:user:www-data'],
    listen: [String(HTTP2_PORT)],
  });
  const place = join(shop.folder, 'traced');
  mkdirSync(place);
  writeFileSync(
    join(place, 'policy.rego'),
    'package picket.authz\n\ndefault allow := false\n\nallow if {\n\tinput.caller.path == "/web"\n\tinput.request.method in {"GET", "POST"}\n}\n\nallow if input.caller.path == "/reports"\n',
  );
  await shop.mesh.control.picketOk('policy', 'publish', place, '-m', 'traced');
  await waitUntil('HTTP/2 passes', async () => (await askHttp2()).status === 200, 60_000);
}, 180_000);
afterAll(async () => {
  await receiver?.stop();
  await deskReceiver?.stop();
  await nginx?.stop();
  await shop?.close();
});

async function askHttp2(...args: readonly string[]): Promise<CurlAnswer> {
  const url = `http://${shop.store.host.ipv4}:${HTTP2_PORT}/trace`;
  const command = [
    'curl',
    '-sS',
    '--max-time',
    '20',
    '--http2-prior-knowledge',
    '-w',
    '\n%{http_code}',
    url,
    ...args,
  ];
  const { stdout, stderr, exitCode } = await run(shop.desk.host.in(...asUser(web, ...command)), { cwd: '/' });
  const lines = stdout.split('\n');
  const status = Number(lines.pop());
  return { status, body: lines.join('\n'), exitCode, error: stderr };
}

async function spanOf(spanId: string): Promise<ReceivedSpan> {
  return await receiver.find((span) => span.spanId === spanId);
}

/** What the application got: the trace, the span that it hangs under, the flags, and the state. */
function seenBy({ body }: CurlAnswer): {
  readonly trace: string;
  readonly span: string;
  readonly flags: string;
  readonly state: string;
} {
  const [, trace = '', span = '', flags = '', state = ''] =
    /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2});(.*)$/m.exec(body) ?? [];
  return { trace, span, flags, state };
}

const ASK = {
  'HTTP/1.1': async (...args: readonly string[]) => await shop.ask(web, '/invoices/trace?secret=1', ...args),
  'HTTP/2': askHttp2,
};

describe.each(['HTTP/1.1', 'HTTP/2'] as const)('a request by %s', (version) => {
  test('goes on in its trace, below the span of the hop, which the receiver gets', async () => {
    const answer = await ASK[version]('-H', `traceparent: ${PARENT}`, '-H', 'tracestate: vendor=1');
    const seen = seenBy(answer);
    expect(seen).toMatchObject({ trace: TRACE, flags: '01', state: 'vendor=1' });
    expect(seen.span).not.toBe(PARENT_SPAN);
    const span = await spanOf(seen.span);
    expect(span).toMatchObject({ traceId: TRACE, parentSpanId: PARENT_SPAN, name: 'GET', kind: KIND.server });
    expect(Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano))).toBeGreaterThan(0);
    expect(attributesOf(span)).toMatchObject({
      'http.request.method': 'GET',
      'url.path': version === 'HTTP/2' ? '/trace' : '/invoices/trace',
      'url.scheme': 'http',
      'network.protocol.version': version === 'HTTP/2' ? '2' : '1.1',
      'client.address': shop.desk.host.ipv4,
      'picket.caller_spiffe_id': 'spiffe://example.org/web',
      'picket.target_spiffe_id': `spiffe://example.org/${version === 'HTTP/2' ? 'h2' : 'invoices'}`,
      'picket.decision': 'allow',
      'picket.reason': 'policy_allow',
      ...(version === 'HTTP/2' ? {} : { 'http.response.status_code': 200 }),
    });
    expect(JSON.stringify(span)).not.toContain('secret');
    const id = attributesOf(span)['picket.decision_id'];
    const record = await waitUntil('the decision stands in the record', async () => {
      const page = await shop.mesh.control.picketJson(accessPage, 'audit', 'access', '--limit', '200');
      return page.items.find(({ decision_id }) => decision_id === id);
    });
    expect(record).toMatchObject({ trace_id: TRACE, decision: 'allow' });
  });

  test('begins a trace where it has none, or a broken or a doubled one, and brings no state of it', async () => {
    const broken: readonly (readonly string[])[] = [
      [],
      ['-H', `traceparent: ${PARENT.slice(1)}`, '-H', 'tracestate: evil=1'],
      ['-H', `traceparent: 00-${'0'.repeat(32)}-${PARENT_SPAN}-01`, '-H', 'tracestate: evil=1'],
      ['-H', `traceparent: ${PARENT}`, '-H', `traceparent: ${PARENT}`, '-H', 'tracestate: evil=1'],
    ];
    for (const args of broken) {
      const seen = seenBy(await ASK[version](...args));
      expect(seen).toMatchObject({ flags: '01', state: '' });
      expect(seen.trace).not.toBe(TRACE);
      const span = await spanOf(seen.span);
      expect(span.traceId).toBe(seen.trace);
      expect(span.parentSpanId ?? '').toBe('');
    }
  });

  test('whose caller records nothing is not recorded, and keeps its trace', async () => {
    const seen = seenBy(await ASK[version]('-H', `traceparent: ${PARENT.replace(/01$/, '00')}`));
    expect(seen).toMatchObject({ trace: TRACE, flags: '00' });
    // What is asked later has come by then.
    await spanOf(seenBy(await ASK[version]()).span);
    expect(receiver.spans.filter(({ spanId }) => spanId === seen.span)).toEqual([]);
  });
});

test('a request that is refused is a span with its reason, and reaches no application', async () => {
  const answer = await shop.ask(web, '/invoices/trace', '-X', 'DELETE', '-H', `traceparent: ${PARENT}`);
  expect(answer.status).toBe(403);
  const { decision_id } = denialBody.parse(JSON.parse(answer.body));
  const span = await receiver.findWith({ 'picket.decision_id': decision_id });
  expect(attributesOf(span)).toMatchObject({
    'http.request.method': 'DELETE',
    'http.response.status_code': 403,
    'picket.decision': 'deny',
    'picket.reason': 'policy_deny',
  });
  expect(span).toMatchObject({ traceId: TRACE, parentSpanId: PARENT_SPAN });
});

test('a gRPC call is named by its method', async () => {
  const url = `http://${shop.store.host.ipv4}:${HTTP2_PORT}/invoices.v1.Invoices/Get`;
  const headers = ['-H', 'content-type: application/grpc', '-H', 'te: trailers', '-X', 'POST'];
  const curl = ['curl', '-sS', '--max-time', '20', '--http2-prior-knowledge', url, ...headers];
  const { stdout: body } = await run(shop.desk.host.in(...asUser(web, ...curl)), { cwd: '/' });
  const span = await spanOf(seenBy({ body, status: 200, exitCode: 0, error: '' }).span);
  expect(span.name).toBe('invoices.v1.Invoices/Get');
  expect(attributesOf(span)).toMatchObject({
    'rpc.system': 'grpc',
    'rpc.service': 'invoices.v1.Invoices',
    'rpc.method': 'Get',
  });
});

describe('a connection that is no HTTP', () => {
  test('is a span of each host in one trace, the called side’s below the calling side’s', async () => {
    expect((await shop.query(reports)).exitCode).toBe(0);
    const database = { 'picket.target_spiffe_id': 'spiffe://example.org/database' };
    const below = await receiver.findWith(database);
    const above = await deskReceiver.find(({ traceId }) => traceId === below.traceId);
    expect([above.kind, below.kind]).toEqual([KIND.client, KIND.server]);
    expect([above.parentSpanId ?? '', below.parentSpanId]).toEqual(['', above.spanId]);
    const parties = {
      ...database,
      'picket.caller_spiffe_id': 'spiffe://example.org/reports',
      'server.address': shop.store.host.ipv4,
      'server.port': 5432,
      'network.transport': 'tcp',
      'picket.decision': 'allow',
    };
    expect(attributesOf(above)).toMatchObject({ ...parties, 'picket.places_asked': 1 });
    expect(String(attributesOf(above)['picket.mesh_connection'])).toMatch(/^(new|resumed|pooled)$/);
    expect(attributesOf(below)).toMatchObject({ ...parties, 'picket.reason': 'policy_allow' });
    const { page } = await recordsOf(database['picket.target_spiffe_id']);
    const record = page.find(({ trace_id }) => trace_id === below.traceId);
    expect(record).toMatchObject({ direction: 'inbound', protocol: 'tcp', decision: 'allow' });
    expect(record?.decision_id.replaceAll('-', '')).toBe(below.traceId);
  });

  test('of the same two workloads goes on a connection that stands', async () => {
    const uses = (): readonly unknown[] =>
      deskReceiver.spans
        .map(attributesOf)
        .filter((span) => span['picket.target_spiffe_id'] === 'spiffe://example.org/database')
        .map((span) => span['picket.mesh_connection']);
    const before = uses().length;
    for (let i = 0; i < 3; i++) expect((await shop.query(reports)).exitCode).toBe(0);
    await waitUntil('all have come', () => uses().length >= before + 3);
    expect(uses().slice(before)).toContain('pooled');
  });

  test('that is refused is a span of either host, with the reason', async () => {
    expect((await shop.query(nobody)).exitCode).not.toBe(0);
    // Not one of those that were refused while the mesh was being set up.
    const refused = await deskReceiver.findWith({
      'picket.decision': 'deny',
      'picket.reason': 'caller_unidentified',
      'server.port': 5432,
    });
    expect(attributesOf(refused)).toMatchObject({ 'error.type': 'caller_unidentified' });
    expect((await shop.query(web)).exitCode).not.toBe(0);
    const denial = { 'picket.decision': 'deny', 'picket.reason': 'policy_deny', 'server.port': 5432 };
    const [asked, taken] = [await deskReceiver.findWith(denial), await receiver.findWith(denial)];
    expect(asked.traceId).toBe(taken.traceId);
    expect(attributesOf(asked)['picket.decision_id']).toBe(attributesOf(taken)['picket.decision_id']);
  });

  test('is not made of what carries HTTP at the called side, which names the connection in each request', async () => {
    const request = await spanOf(seenBy(await ASK['HTTP/1.1']()).span);
    const { 'picket.connection_id': connection } = attributesOf(request);
    const carried = await deskReceiver.findWith({ 'picket.connection_id': connection });
    expect(attributesOf(carried)).toMatchObject({ 'server.port': 80, 'picket.decision': 'allow' });
    expect([request.name, request.kind]).toEqual(['GET', KIND.server]);
    expect(receiver.spans.filter(({ traceId }) => traceId === carried.traceId)).toEqual([]);
  });
});

async function recordsOf(target: string): Promise<{ readonly page: readonly AccessRecord[] }> {
  return await waitUntil('it is on record', async () => {
    const { items } = await shop.mesh.control.picketJson(accessPage, 'audit', 'access', '--target', target);
    return items.length > 0 ? { page: items } : undefined;
  });
}

test('without a receiver requests go on, and what is lost is told', async () => {
  await receiver.stop();
  for (let i = 0; i < 5; i++) expect((await shop.ask(web, '/invoices/trace')).status).toBe(200);
  await waitUntil(
    'the loss is counted',
    async () => ((await shop.store.metric('picket_spans_lost_total{why="not_taken"}')) ?? 0) >= 5,
    60_000,
  );
  expect(shop.store.log()).toContain('spans_lost');
});

test('where nothing is traced, trace context passes as it is', async () => {
  const config = JSON.parse(readFileSync(shop.store.configFile, 'utf8')) as Record<string, unknown>;
  delete config['traces'];
  writeFileSync(shop.store.configFile, JSON.stringify(config));
  await shop.store.stop();
  await shop.store.start();
  const headers = ['-H', `traceparent: ${PARENT}`, '-H', 'tracestate: vendor=1'];
  for (const ask of Object.values(ASK)) {
    await waitUntil('it passes', async () => (await ask()).status === 200, 60_000);
    expect((await ask(...headers)).body.trim()).toBe(`${PARENT};vendor=1`);
    expect((await ask('-H', 'traceparent: broken')).body.trim()).toBe('broken;');
  }
});
