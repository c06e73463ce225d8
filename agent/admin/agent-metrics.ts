import { Counter, Histogram, type Registry } from 'prom-client';
import { DECISION_REASONS } from '../../shared/policy/decision.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { PolicyObserver } from '../policy/policy-holder.ts';
import type { DecidedRecord } from '../proxy/proxy-observer.ts';
import { addStateFigures } from './state-figures.ts';
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
  readonly #services: Counter<'service' | 'caller'>;
  readonly #decisionCounts = new Map<string, Counter.Internal>();
  readonly #serviceCounts = {
    mesh: new Map<string, Counter.Internal>(),
    plaintext: new Map<string, Counter.Internal>(),
  };
  readonly #decisionSeconds: Readonly<Record<AccessRecord['direction'], Histogram.Internal<'direction'>>>;
  readonly #handshakes: Counter<'side' | 'outcome'>;
  readonly #crowd: AgentState['crowd'];
  readonly #unkept: Counter<'what'>;
  readonly #broken: Counter<'side'>;
  readonly #policyRefusals: Counter<'reason'>;

  constructor(registry: Registry, options: { readonly state: AgentState; readonly clock: Clock }) {
    const registers = [registry];
    this.#decisions = new Counter({
      name: 'picket_decisions_total',
      help: 'Decisions by outcome.',
      labelNames: ['direction', 'protocol', 'decision', 'reason'],
      registers,
    });
    this.#services = new Counter({
      name: 'picket_service_decisions_total',
      help: 'Decisions of the called side by service, and whether its caller came through the mesh or in plaintext, without identity.',
      labelNames: ['service', 'caller'],
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
    this.#crowd = options.state.crowd;
    this.#unkept = new Counter({
      name: 'picket_state_write_failures_total',
      help: 'What could not be written to disk: it is in force, and a restart would miss it.',
      labelNames: ['what'],
      registers,
    });
    this.#broken = new Counter({
      name: 'picket_mesh_broken_total',
      help: 'Connections between agents that broke while they carried something.',
      labelNames: ['side'],
      registers,
    });
    this.#policyRefusals = new Counter({
      name: 'picket_policy_refusals_total',
      help: 'Policies of the server that were not taken.',
      labelNames: ['reason'],
      registers,
    });
    addStateFigures(registry, options);
  }

  /** A decision was recorded. */
  decided(record: DecidedRecord): void {
    const { direction, protocol } = record;
    const decision = record.would_deny === true ? 'would_deny' : record.decision;
    // The list of reasons is closed; what is not on it must not make new series.
    const reason = Object.hasOwn(DECISION_REASONS, record.reason) ? record.reason : 'other';
    this.#decisionCount(direction, protocol, decision, reason).inc();
    if (direction === 'inbound' && record.target_spiffe_id !== null)
      this.#serviceCount(
        record.target_spiffe_id,
        record.caller_spiffe_id === null ? 'plaintext' : 'mesh',
      ).inc();
    this.#decisionSeconds[direction].observe(record.latency_us / MICROSECONDS);
  }

  /** A handshake with another agent ended. */
  handshaken({ side, outcome }: Handshake): void {
    this.#handshakes.inc({ side, outcome });
  }

  /** A connection of another host was turned away because places ran short. */
  turnedAway(why: 'unproven' | 'idle' | 'full'): void {
    this.#crowd.note(why);
  }

  /** The disk did not take what is in force: what the server told, or the policy. */
  unkept(what: 'state' | 'policy'): void {
    this.#unkept.inc({ what });
  }

  /** A connection to another agent broke. */
  broke(side: Handshake['side']): void {
    this.#broken.inc({ side });
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

  /** Services are those that are registered on this host: there are not many. */
  #serviceCount(service: string, caller: 'mesh' | 'plaintext'): Counter.Internal {
    const counts = this.#serviceCounts[caller];
    const known = counts.get(service);
    if (known !== undefined) return known;
    const count = this.#services.labels(service, caller);
    counts.set(service, count);
    return count;
  }

  inForce(): void {
    // Which policy is in force is read from the state.
  }

  refused(reason: string): void {
    this.#policyRefusals.inc({ reason });
  }
}
