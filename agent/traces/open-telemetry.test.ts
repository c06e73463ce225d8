import { describe, expect, test } from 'bun:test';
import { waitUntil } from '../../tests/kit/wait.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { DecisionReason } from '../../shared/policy/decision.ts';
import { verdictOf } from '../proxy/fixtures/judge-rig.ts';
import type { Encounter, Judgement } from '../proxy/judge/judge.ts';
import { MAX_SPANS } from './bounded-spans.ts';
import { attributesOf, TracesRig } from './fixtures/traces-rig.ts';
import type { TracedConnection, TracedRequest } from './traces.ts';

const ENCOUNTER: Encounter = {
  direction: 'inbound',
  caller: {
    spiffeId: parseSpiffeId('spiffe://example.org/web'),
    address: '10.0.0.1',
    port: 1,
    certificateNotAfterMs: 1,
  },
  target: { spiffeId: parseSpiffeId('spiffe://example.org/shop'), address: '10.0.0.2', port: 80 },
  process: null,
};
const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
/** While others hold none. */
const MAX_OF_ONE = (MAX_SPANS * 3) / 4;
const CONNECTION = '0af76519-16cd-43dd-8448-eb211c803190';
const TRACE = '0af7651916cd43dd8448eb211c803190';
const requestWith = (headers: Readonly<Record<string, string>>): TracedRequest => ({
  encounter: ENCOUNTER,
  connectionId: CONNECTION,
  http: { method: 'GET', path: '/a?secret=1', host: 'shop', headers },
});
const judgementWith = (reason: DecisionReason): Judgement => ({
  decisionId: 'decision',
  verdict: verdictOf(reason),
});

/** The value that the application gets. */
function markedBy(
  { traces }: TracesRig,
  headers: Readonly<Record<string, string>>,
): { readonly traceparent: string; readonly head: string } {
  const hop = traces.begin(requestWith(headers));
  const head = Buffer.from(hop.markHead(Buffer.from('GET / HTTP/1.1\r\ntracestate: a=b\r\n\r\n'))).toString();
  hop.end();
  hop.end();
  return { traceparent: /traceparent: (.*)\r/.exec(head)?.[1] ?? '', head };
}

describe('OpenTelemetryTraces', () => {
  test('a request that belongs to a trace goes on in it, below our span, with its state', async () => {
    await using rig = new TracesRig({ ratio: 0 });
    const { traceparent, head } = markedBy(rig, { traceparent: PARENT });
    expect(traceparent).toMatch(/^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01$/);
    expect(traceparent).not.toContain('b7ad6b7169203331');
    expect(head).toContain('tracestate: a=b');
    // Whose caller does not record it is not recorded.
    expect(markedBy(rig, { traceparent: PARENT.replace(/01$/, '00') }).traceparent).toEndWith('-00');
  });

  test.each([
    undefined,
    '',
    'nonsense',
    PARENT.toUpperCase(),
    `${PARENT}, ${PARENT}`,
    PARENT.replace(/^00/, 'ff'),
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-0af7651916cd43dd8448eb211c80319c-${'0'.repeat(16)}-01`,
    `${PARENT}-more`,
    PARENT.slice(0, -1),
  ])('a new trace begins where the context is %p, and the state goes with it', async (traceparent) => {
    await using rig = new TracesRig();
    const marked = markedBy(rig, traceparent === undefined ? {} : { traceparent });
    expect(marked.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    expect(marked.traceparent).not.toContain('0af7651916cd43dd8448eb211c80319c');
    expect(marked.head).not.toContain('tracestate');
  });

  test('the ratio alone counts where it is not parent-based', async () => {
    await using rig = new TracesRig({ ratio: 0, isParentBased: false });
    expect(markedBy(rig, { traceparent: PARENT }).traceparent).toEndWith('-00');
  });

  test('what does not fit, and what is not taken, is counted and told', async () => {
    await using rig = new TracesRig();
    rig.status = 400;
    for (let i = 0; i < MAX_OF_ONE + 100; i++) rig.traces.begin(requestWith({})).end();
    expect(rig.lost['queue_full']).toBe(100);
    await rig.traces.stop();
    await waitUntil('all are told', () => rig.lost['not_taken'] === MAX_OF_ONE);
    expect(rig.lost['queue_full']).toBe(100);
    expect(rig.lines.join('\n')).toContain('spans_lost');
  });

  test('stop() sends what waits', async () => {
    await using rig = new TracesRig();
    for (let i = 0; i < 1000; i++) rig.traces.begin(requestWith({})).end();
    await rig.traces.stop();
    expect([rig.spans.length, rig.lost]).toEqual([1000, { queue_full: 0, not_taken: 0 }]);
  });

  test('a request that leaves the mesh is a client’s span, with the name that it asked for and without its query', async () => {
    await using rig = new TracesRig();
    const encounter: Encounter = {
      ...ENCOUNTER,
      direction: 'outbound',
      target: { spiffeId: null, address: '192.0.2.1', port: 80, domain: 'api.test' },
    };
    const hop = rig.traces.begin({ ...requestWith({}), encounter });
    hop.judged(judgementWith('policy_allow'));
    hop.seeAnswer(Buffer.from('HTTP/1.1 404 Not Found\r\n'));
    hop.end();
    await rig.traces.stop();
    const [span] = rig.spans;
    expect(span).toMatchObject({ kind: 3, name: 'GET', status: { code: 2 } });
    expect(span && attributesOf(span)).toMatchObject({
      'url.full': 'http://shop/a',
      'server.address': 'api.test',
      'picket.connection_id': CONNECTION,
      'http.response.status_code': 404,
    });
  });
});

describe('OpenTelemetryTraces of connections', () => {
  const calling: TracedConnection = { connectionId: CONNECTION, side: 'calling', isNamedByCaller: false };
  const called: TracedConnection = { connectionId: CONNECTION, side: 'called', isNamedByCaller: true };
  const outbound: Encounter = { ...ENCOUNTER, direction: 'outbound' };

  test('both hosts make spans of one trace, the called side’s below the calling side’s', async () => {
    await using rig = new TracesRig();
    const asked = rig.traces.beginPassage(calling);
    const taken = rig.traces.beginPassage(called);
    expect([asked.traceId, taken.traceId]).toEqual([TRACE, TRACE]);
    asked.asks({ address: '10.0.0.8', port: 80 });
    asked.asks({ address: '10.0.0.9', port: 80 });
    taken.judged(ENCOUNTER, judgementWith('policy_allow'));
    asked.opened(outbound, 'resumed');
    for (const passage of [taken, asked, asked]) passage.end();
    await rig.traces.stop();
    const [below, above] = rig.spans;
    expect(rig.spans).toHaveLength(2);
    expect([below?.kind, above?.kind, below?.traceId, above?.traceId]).toEqual([2, 3, TRACE, TRACE]);
    expect([below?.parentSpanId, above?.parentSpanId ?? '']).toEqual([above?.spanId ?? 'none', '']);
    expect(above && attributesOf(above)).toMatchObject({
      'picket.connection_id': CONNECTION,
      'picket.caller_spiffe_id': 'spiffe://example.org/web',
      'picket.target_spiffe_id': 'spiffe://example.org/shop',
      'picket.mesh_connection': 'resumed',
      'picket.decision': 'allow',
      'picket.places_asked': 2,
      'tls.resumed': true,
      'network.peer.address': '10.0.0.9',
      'network.transport': 'tcp',
    });
    expect(above?.events?.map(({ name }) => name)).toEqual(['picket.ask', 'picket.ask']);
    expect(below && attributesOf(below)).toMatchObject({ 'picket.connection_id': CONNECTION });
  });

  test('a denial ends the span with its reason; what is dropped has none', async () => {
    await using rig = new TracesRig();
    const refused = rig.traces.beginPassage(calling);
    refused.judged(outbound, judgementWith('target_unreachable'));
    refused.judged(outbound, judgementWith('quarantined'));
    refused.end({ message: 'It was cut' });
    const dropped = rig.traces.beginPassage(called);
    dropped.drop();
    dropped.judged(ENCOUNTER, judgementWith('policy_deny'));
    dropped.end();
    const broken = rig.traces.beginPassage(called);
    broken.end({ message: 'ECONNRESET' });
    await rig.traces.stop();
    const [first, last] = rig.spans;
    expect(rig.spans).toHaveLength(2);
    expect(first).toMatchObject({ status: { code: 2 } });
    expect(first && attributesOf(first)).toMatchObject({
      'picket.reason': 'target_unreachable',
      'error.type': 'target_unreachable',
      'picket.decision': 'deny',
    });
    expect(last && attributesOf(last)).toEqual({ 'error.type': 'connection_broken' });
  });

  test.each([true, false])(
    'are recorded by the ratio of their ids, on both sides alike (parent-based: %p)',
    async (isParentBased) => {
      await using rig = new TracesRig({ ratio: 0.5, isParentBased });
      for (let i = 0; i < 200; i++) {
        const connectionId = crypto.randomUUID();
        for (const connection of [calling, called])
          rig.traces.beginPassage({ ...connection, connectionId }).end();
      }
      await rig.traces.stop();
      const counts = Map.groupBy(rig.spans, ({ traceId }) => traceId);
      expect([...counts.values()].every((spans) => spans.length === 2)).toBe(true);
      expect(counts.size).toBeGreaterThan(50);
      expect(counts.size).toBeLessThan(150);
    },
  );

  test('goes on in the trace that its caller names, and begins one where that is none', async () => {
    await using rig = new TracesRig();
    const begin = (traceparent: string): void =>
      rig.traces.beginPassage({ ...called, isNamedByCaller: false, traceparent }).end();
    // Of ztunnel, which never says that it records a trace.
    begin(PARENT.replace(/01$/, '00'));
    begin(`${PARENT}, ${PARENT}`);
    await rig.traces.stop();
    const [onward, begun] = rig.spans;
    expect(onward).toMatchObject({
      traceId: '0af7651916cd43dd8448eb211c80319c',
      parentSpanId: 'b7ad6b7169203331',
      kind: 2,
    });
    expect([begun?.traceId, begun?.parentSpanId ?? '']).toEqual([TRACE, '']);
  });

  test.each([
    [true, '01', 1],
    [true, '00', 0],
    [false, '01', 0],
  ])('in a trace of the caller’s (parent-based: %p, flags %s) is recorded %i times', async (...row) => {
    const [isParentBased, flags, count] = row;
    await using rig = new TracesRig({ ratio: 0, isParentBased });
    const traceparent = PARENT.replace(/01$/, flags);
    rig.traces.beginPassage({ ...called, isNamedByCaller: false, traceparent }).end();
    await rig.traces.stop();
    expect(rig.spans).toHaveLength(count);
  });

  test('of strangers, however many are refused, leave those of workloads their places', async () => {
    await using rig = new TracesRig();
    const stranger: Encounter = { ...ENCOUNTER, caller: { ...ENCOUNTER.caller, spiffeId: null } };
    for (let i = 0; i < 2 * MAX_SPANS; i++) {
      const connectionId = crypto.randomUUID();
      const passage = rig.traces.beginPassage({ ...called, isNamedByCaller: false, connectionId });
      passage.judged(stranger, judgementWith('listener_not_registered'));
    }
    const lost = rig.lost['queue_full'] ?? 0;
    for (let i = 0; i < 100; i++) rig.traces.begin(requestWith({})).end();
    expect([lost, rig.lost['queue_full']]).toEqual([2 * MAX_SPANS - MAX_OF_ONE, lost]);
    await rig.traces.stop();
    expect(rig.spans.filter(({ name }) => name === 'GET')).toHaveLength(100);
    // What has left has left its place.
    expect(rig.spans).toHaveLength(MAX_OF_ONE + 100);
  });

  test('an id that is no trace’s begins one of its own', async () => {
    await using rig = new TracesRig();
    for (const connectionId of [`${'0'.repeat(8)}-0000-0000-0000-${'0'.repeat(12)}`, 'nonsense'])
      rig.traces.beginPassage({ ...called, connectionId }).end();
    await rig.traces.stop();
    expect(
      rig.spans.map(({ traceId, parentSpanId = '' }) => [/^[0-9a-f]{32}$/.test(traceId), parentSpanId]),
    ).toEqual([
      [true, ''],
      [true, ''],
    ]);
  });
});
