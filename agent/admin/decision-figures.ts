import { Counter, type Registry } from 'prom-client';
import { DECISION_REASONS } from '../../shared/policy/decision.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import type { DecidedRecord, DecisionKind } from '../proxy/records/proxy-observer.ts';
import { SecondsHistogram } from './seconds-histogram.ts';

/** Upper bounds of how long decisions take, in seconds: from the plan of a small policy to wasm over ten thousand rules. */
const DECISION_BUCKETS = [
  0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_5, 0.002, 0.01, 0.1,
];
const MICROSECONDS = 1_000_000;

/** Decisions of one kind since somebody asked last. A counter of the library costs more than the rest of a decision that is known already. */
interface Cell<Labels extends Record<string, string>> {
  readonly labels: Labels;
  count: number;
}

class Cells<Labels extends Record<string, string>> {
  readonly #cells = new Map<string, Cell<Labels>>();

  find(labels: Labels): Cell<Labels> {
    const key = Object.values(labels).join(' ');
    const known = this.#cells.get(key);
    if (known !== undefined) return known;
    const cell = { labels, count: 0 };
    this.#cells.set(key, cell);
    return cell;
  }

  empty(add: (labels: Labels, count: number) => void): void {
    for (const cell of this.#cells.values()) {
      add(cell.labels, cell.count);
      cell.count = 0;
    }
  }
}

/** What there is to count of decisions. Services are those that are registered on this host: there are not many. */
export class DecisionFigures {
  readonly #outcomes = new Cells<{ direction: string; protocol: string; decision: string; reason: string }>();
  readonly #services = new Cells<{ service: string; caller: string }>();
  readonly #seconds: Readonly<Record<AccessRecord['direction'], (seconds: number) => void>>;

  constructor(registry: Registry) {
    const [outcomes, services] = [this.#outcomes, this.#services];
    registry.registerMetric(
      new Counter({
        name: 'picket_decisions_total',
        help: 'Decisions by outcome.',
        labelNames: ['direction', 'protocol', 'decision', 'reason'],
        registers: [],
        collect() {
          outcomes.empty((labels, count) => this.inc(labels, count));
        },
      }),
    );
    registry.registerMetric(
      new Counter({
        name: 'picket_service_decisions_total',
        help: 'Decisions of the called side by service, and whether its caller came through the mesh or in plaintext, without identity.',
        labelNames: ['service', 'caller'],
        registers: [],
        collect() {
          services.empty((labels, count) => this.inc(labels, count));
        },
      }),
    );
    const seconds = new SecondsHistogram(registry, {
      name: 'picket_decision_seconds',
      help: 'How long the evaluation of the policy took.',
      bounds: DECISION_BUCKETS,
    });
    this.#seconds = {
      inbound: seconds.series({ direction: 'inbound' }),
      outbound: seconds.series({ direction: 'outbound' }),
    };
  }

  decided(record: DecidedRecord): void {
    this.counterOf(record)(record.latency_us);
  }

  counterOf(kind: DecisionKind): (latencyUs: number) => void {
    const { direction, protocol, target_spiffe_id: service } = kind;
    const decision = kind.would_deny === true ? 'would_deny' : kind.decision;
    // The list of reasons is closed; what is not on it must not make new series.
    const reason = Object.hasOwn(DECISION_REASONS, kind.reason) ? kind.reason : 'other';
    const outcome = this.#outcomes.find({ direction, protocol, decision, reason });
    const caller = kind.caller_spiffe_id === null ? 'plaintext' : 'mesh';
    const served =
      direction === 'inbound' && service !== null ? this.#services.find({ service, caller }) : undefined;
    const observe = this.#seconds[direction];
    return (latencyUs) => {
      outcome.count += 1;
      if (served !== undefined) served.count += 1;
      observe(latencyUs / MICROSECONDS);
    };
  }
}
