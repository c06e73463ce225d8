import { beforeEach, describe, expect, test } from 'bun:test';
import { tmpdir } from 'node:os';
import type { Registry } from 'prom-client';
import { createMetrics } from '../../shared/runtime/metrics.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { startingAgentState } from '../../tests/kit/agent-state.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import type { IdentitySource, WorkloadIdentity } from '../identity/identity.ts';
import { makeDomain, makeIdentity, makeSvid } from '../workload-api/fixtures/workload-rig.ts';
import { AgentMetrics } from './agent-metrics.ts';
import { addStateFigures } from './state-figures.ts';
import type { AgentState } from './status.ts';

const RECORD = {
  direction: 'inbound',
  protocol: 'http',
  decision: 'deny',
  reason: 'policy_deny',
  latency_us: 30,
  caller_spiffe_id: null,
  target_spiffe_id: parseSpiffeId('spiffe://example.org/web'),
} as const;

let registry: Registry;
let clock: FakeClock;
let state: { -readonly [K in keyof AgentState]: AgentState[K] };
let metrics: AgentMetrics;

beforeEach(() => {
  registry = createMetrics({ version: '1', role: 'agent', startedAtMs: 0 });
  clock = new FakeClock();
  state = startingAgentState({ version: '1', findMissing: () => 'no identity yet' });
  metrics = new AgentMetrics(registry, state);
  addStateFigures(registry, { state, clock });
});

/** The value of one series, or undefined when it is not there. */
async function value(series: string): Promise<number | undefined> {
  const line = (await registry.metrics()).split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

describe('AgentMetrics', () => {
  test('decided() counts decisions by outcome and how long they took', async () => {
    metrics.decided(RECORD);
    metrics.decided({ ...RECORD, decision: 'allow', reason: 'policy_allow' });
    metrics.decided({ ...RECORD, decision: 'allow', reason: 'policy_allow' });
    const labels = (decision: string, reason: string): string =>
      `picket_decisions_total{direction="inbound",protocol="http",decision="${decision}",reason="${reason}"}`;
    expect(await value(labels('deny', 'policy_deny'))).toBe(1);
    expect(await value(labels('allow', 'policy_allow'))).toBe(2);
    metrics.decided({ ...RECORD, decision: 'allow', would_deny: true });
    expect(await value(labels('would_deny', 'policy_deny'))).toBe(1);
    expect(await value('picket_decision_seconds_bucket{le="0.00002",direction="inbound"}')).toBe(0);
    expect(await value('picket_decision_seconds_bucket{le="0.00005",direction="inbound"}')).toBe(4);
  });

  test('decided() counts for each service who came through the mesh and who in plaintext', async () => {
    metrics.decided(RECORD);
    metrics.decided({ ...RECORD, caller_spiffe_id: parseSpiffeId('spiffe://example.org/a') });
    metrics.decided({ ...RECORD, caller_spiffe_id: parseSpiffeId('spiffe://example.org/b') });
    metrics.decided({ ...RECORD, direction: 'outbound' });
    metrics.decided({ ...RECORD, target_spiffe_id: null });
    const series = (caller: string): string =>
      `picket_service_decisions_total{service="spiffe://example.org/web",caller="${caller}"}`;
    expect([await value(series('plaintext')), await value(series('mesh'))]).toEqual([1, 2]);
  });

  test('decided() makes no series for a reason that is not on the list', async () => {
    for (const reason of ['a', 'b', 'constructor']) metrics.decided({ ...RECORD, reason });
    const text = await registry.metrics();
    expect(text).toContain('reason="other"} 3');
    expect(text).not.toContain('constructor');
  });

  test('handshaken() counts by side and outcome, refused() by reason, spare() by what became of it', async () => {
    metrics.handshaken({ side: 'caller', outcome: 'resumed' });
    metrics.handshaken({ side: 'called', outcome: 'failed' });
    metrics.handshaken({ side: 'called', outcome: 'full', protocol: 'hbone' });
    metrics.refused('policy_foreign');
    metrics.spare('made');
    metrics.spare('made');
    metrics.spare('taken');
    expect(await value('picket_mesh_spares_total{what="made"}')).toBe(2);
    expect(await value('picket_mesh_spares_total{what="taken"}')).toBe(1);
    expect(await value('picket_mesh_handshakes_total{side="caller",outcome="resumed"}')).toBe(1);
    expect(await value('picket_mesh_handshakes_total{side="called",outcome="failed"}')).toBe(1);
    expect(await value('picket_mesh_handshakes_total{side="called",outcome="full"}')).toBe(1);
    expect(await value('picket_hbone_handshakes_total{side="called",outcome="full"}')).toBe(1);
    expect(await value('picket_policy_refusals_total{reason="policy_foreign"}')).toBe(1);
  });

  test('AgentMetrics tells nothing of what is not there yet', async () => {
    const text = await registry.metrics();
    for (const name of [
      'picket_certificate_',
      'picket_policy_version',
      'picket_capture_intact',
      'picket_capture_contested',
      'picket_audit_',
    ])
      expect(text).not.toMatch(new RegExp(`^${name}`, 'm'));
    expect(await value('picket_ready')).toBe(0);
  });

  test('AgentMetrics tells the age and the rest of the agent’s certificate and of the workloads’ worst', async () => {
    const domain = await makeDomain('example.org');
    const web = await makeIdentity(domain, '/web');
    const nowMs = clock.nowMs();
    const aged = (ageS: number, restS: number, identity: WorkloadIdentity): WorkloadIdentity => ({
      ...identity,
      svid: { ...identity.svid, notBeforeMs: nowMs - ageS * 1000, notAfterMs: nowMs + restS * 1000 },
    });
    const own = await makeSvid(domain, 'spiffe://example.org/picket/agent/tpm/a');
    const source: IdentitySource = {
      identities: new WatchedValue(
        new Map([
          ['1', aged(10, 500, web)],
          ['2', aged(90, 400, web)],
        ]),
      ),
      bundles: new WatchedValue(new Map()),
      agentSvid: new WatchedValue({ ...own, notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 3_600_000 }),
    };
    state.identities = () => source;
    clock.advance(1000);
    expect(await value('picket_certificate_remaining_seconds{of="agent"}')).toBe(3599);
    expect(await value('picket_certificate_age_seconds{of="agent"}')).toBe(61);
    expect(await value('picket_certificate_remaining_seconds{of="workloads"}')).toBe(399);
    expect(await value('picket_certificate_age_seconds{of="workloads"}')).toBe(91);
    expect(await value('picket_workload_identities')).toBe(2);
  });

  test('AgentMetrics tells policy, capture, spool and the Workload API as they stand', async () => {
    state.findMissing = () => undefined;
    state.server = () => ({
      isConnected: true,
      isClockSkewed: true,
      clockSkewMs: -600_000,
      lastHeardAt: new Date(5000).toISOString(),
    });
    state.policy = () => ({ version: 3, sequence: 5 });
    state.capture = () => ({
      backend: 'nftables',
      isIntact: false,
      repairs: 2,
      isWatched: true,
      isContested: false,
      transparentPorts: { steered: [], leftAlone: [] },
    });
    state.spool = () => ({
      epoch: 'e',
      lastSequence: 9,
      depth: 4,
      bytes: 1000,
      refused: 1,
      isHeldBack: true,
    });
    state.workloadApi = () => ({ connections: 1, streams: 2 });
    state.holderSearch = () => 'proc';
    state.connections = () => 7;
    state.maxConnections = () => 10;
    for (const [name, expected] of Object.entries({
      picket_ready: 1,
      picket_server_connected: 1,
      picket_policy_version: 3,
      picket_policy_sequence: 5,
      picket_capture_intact: 0,
      picket_capture_repairs_total: 2,
      picket_capture_contested: 0,
      picket_audit_spool_records: 4,
      picket_audit_spool_bytes: 1000,
      picket_audit_refused_total: 1,
      picket_workload_api_connections: 1,
      picket_workload_api_streams: 2,
      'picket_holder_search{by="proc"}': 1,
      picket_connections: 7,
      picket_connections_max: 10,
      picket_server_last_heard_seconds: 5,
      picket_clock_skew_seconds: -600,
    }))
      expect([name, await value(name)]).toEqual([name, expected]);
    expect(await value('picket_data_disk_free_bytes')).toBeUndefined();
    state.dataDirectory = tmpdir();
    expect(await value('picket_data_disk_free_bytes')).toBeGreaterThan(0);
  });
});
