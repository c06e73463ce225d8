import { Counter, Histogram, type Registry } from 'prom-client';
import { DECISION_REASONS } from '../../shared/policy/decision.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { addCounter, addGauge } from '../../shared/runtime/metrics.ts';
import type { HeldSvid } from '../identity/identity.ts';
import type { PolicyObserver } from '../policy/policy-holder.ts';
import type { AgentState } from './status.ts';

/** A TLS handshake between agents: which side we were, and what came of it. */
export interface Handshake {
  readonly side: 'caller' | 'called';
  readonly outcome: 'full' | 'resumed' | 'failed';
}

/** Upper bounds of how long decisions take, in seconds: from the plan of a small policy to wasm over ten thousand rules. */
const DECISION_BUCKETS = [
  0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_5, 0.002, 0.01, 0.1,
];
const MICROSECONDS = 1_000_000;

/** The agent's figures. What happens is counted here; how things stand is read from `state` when somebody asks. */
export class AgentMetrics implements PolicyObserver {
  readonly #decisions: Counter<'direction' | 'protocol' | 'decision' | 'reason'>;
  readonly #decisionCounts = new Map<string, Counter.Internal>();
  readonly #decisionSeconds: Readonly<Record<AccessRecord['direction'], Histogram.Internal<'direction'>>>;
  readonly #handshakes: Counter<'side' | 'outcome'>;
  readonly #policyRefusals: Counter<'reason'>;

  constructor(registry: Registry, options: { readonly state: AgentState; readonly clock: Clock }) {
    const registers = [registry];
    this.#decisions = new Counter({
      name: 'picket_decisions_total',
      help: 'Decisions by outcome.',
      labelNames: ['direction', 'protocol', 'decision', 'reason'],
      registers,
    });
    const seconds = new Histogram({
      name: 'picket_decision_seconds',
      help: 'How long the evaluation of the policy took.',
      labelNames: ['direction'],
      buckets: DECISION_BUCKETS,
      registers,
    });
    this.#decisionSeconds = {
      inbound: seconds.labels('inbound'),
      outbound: seconds.labels('outbound'),
    };
    this.#handshakes = new Counter({
      name: 'picket_mesh_handshakes_total',
      help: 'TLS handshakes between agents.',
      labelNames: ['side', 'outcome'],
      registers,
    });
    this.#policyRefusals = new Counter({
      name: 'picket_policy_refusals_total',
      help: 'Policies of the server that were not taken.',
      labelNames: ['reason'],
      registers,
    });
    addCertificateFigures(registry, options);
    addStateFigures(registry, options.state);
  }

  /** A decision was recorded. */
  decided(record: Pick<AccessRecord, 'direction' | 'protocol' | 'decision' | 'reason' | 'latency_us'>): void {
    const { direction, protocol, decision } = record;
    // The list of reasons is closed; what is not on it must not make new series.
    const reason = Object.hasOwn(DECISION_REASONS, record.reason) ? record.reason : 'other';
    this.#decisionCount(direction, protocol, decision, reason).inc();
    this.#decisionSeconds[direction].observe(record.latency_us / MICROSECONDS);
  }

  /** A handshake with another agent ended. */
  handshaken({ side, outcome }: Handshake): void {
    this.#handshakes.inc({ side, outcome });
  }

  /** Looked up once for each set of labels: that is most of the cost of counting, which every request pays. */
  #decisionCount(...labels: readonly [string, string, string, string]): Counter.Internal {
    const key = labels.join(' ');
    const known = this.#decisionCounts.get(key);
    if (known !== undefined) return known;
    const count = this.#decisions.labels(...labels);
    this.#decisionCounts.set(key, count);
    return count;
  }

  inForce(): void {
    // Which policy is in force is read from the state.
  }

  refused(reason: string): void {
    this.#policyRefusals.inc({ reason });
  }
}

/** The agent's own certificate, and of the workloads' the one that ends first: a series for each would grow with the host. */
function addCertificateFigures(
  registry: Registry,
  { state, clock }: { readonly state: AgentState; readonly clock: Clock },
): void {
  const figures = (
    name: string,
    help: string,
    secondsOf: (svid: HeldSvid) => number,
    pick: (...seconds: number[]) => number,
  ): void =>
    addGauge(registry, {
      name,
      help,
      labels: ['of'],
      read: (tell) => {
        const source = state.identities();
        if (source === undefined) return;
        tell(secondsOf(source.agentSvid.current), { of: 'agent' });
        const workloads = Array.from(source.identities.current.values(), ({ svid }) => secondsOf(svid));
        if (workloads.length > 0) tell(pick(...workloads), { of: 'workloads' });
      },
    });
  figures(
    'picket_certificate_remaining_seconds',
    'Life left of the certificate; of the workloads’, the one that ends first.',
    (svid) => (svid.notAfterMs - clock.nowMs()) / 1000,
    Math.min,
  );
  figures(
    'picket_certificate_age_seconds',
    'Age of the certificate; of the workloads’, the oldest.',
    (svid) => (clock.nowMs() - svid.notBeforeMs) / 1000,
    Math.max,
  );
}

function addStateFigures(registry: Registry, state: AgentState): void {
  const gauge = (name: string, help: string, read: () => number | undefined): void =>
    addGauge(registry, { name, help, read: (tell) => tellKnown(tell, read()) });
  const counter = (name: string, help: string, read: () => number | undefined): void =>
    addCounter(registry, { name, help, read: (tell) => tellKnown(tell, read()) });
  gauge('picket_ready', '1 when the agent does all its work.', () => flag(state.findMissing() === undefined));
  gauge(
    'picket_workload_identities',
    'Identities that the agent may serve.',
    () => state.identities()?.identities.current.size,
  );
  gauge('picket_server_connected', '1 with a connection to a server.', () =>
    flag(state.server().isConnected),
  );
  gauge('picket_policy_version', 'Version of the policy in force.', () => state.policy()?.version);
  gauge('picket_policy_sequence', 'Sequence of the policy in force.', () => state.policy()?.sequence);
  gauge('picket_connections', 'Connections that pass through the agent.', () => state.connections());
  gauge('picket_capture_intact', '1 when the rules in the kernel are the agent’s.', () => {
    const capture = state.capture();
    return capture === undefined ? undefined : flag(capture.isIntact);
  });
  counter(
    'picket_capture_repairs_total',
    'How often somebody else’s change of the rules was undone.',
    () => state.capture()?.repairs,
  );
  gauge(
    'picket_audit_spool_records',
    'Records that the server does not have yet.',
    () => state.spool()?.depth,
  );
  gauge('picket_audit_spool_bytes', 'Bytes of the spool on disk.', () => state.spool()?.bytes);
  counter(
    'picket_audit_refused_total',
    'Records that could not be kept; their requests were refused.',
    () => state.spool()?.refused,
  );
  gauge(
    'picket_audit_refusing',
    '1 while decisions cannot be recorded, so that requests are refused.',
    () => {
      const spool = state.spool();
      return spool === undefined ? undefined : flag(spool.refusing !== undefined);
    },
  );
  gauge(
    'picket_workload_api_connections',
    'Connections to the Workload API.',
    () => state.workloadApi()?.connections,
  );
  gauge('picket_workload_api_streams', 'Streams of the Workload API.', () => state.workloadApi()?.streams);
}

function tellKnown(tell: (value: number) => void, value: number | undefined): void {
  if (value !== undefined) tell(value);
}

function flag(isSet: boolean): number {
  return isSet ? 1 : 0;
}
