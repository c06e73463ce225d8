import type { Clock } from '../../../shared/runtime/clock.ts';
import type { DatagramGate } from '../../capture/datagram-gate.ts';
import type { FairShare } from '../connections/fair-share.ts';
import { nameOfFlow, type Flow } from './flow.ts';

export interface FlowTableOptions {
  readonly gate: DatagramGate;
  /** Of the places for flows. */
  readonly share: FairShare;
  readonly clock: Clock;
  /** The gate could not be told that a flow has ended. */
  readonly onNotEnded: (error: unknown) => void;
}

/** So long a flow passes without being asked about: then its next datagram is, by which one sees that it is in use. */
const PASSES_MS = 60_000;
/** So long after that it is known, and goes on without another record. */
const KNOWN_MS = 120_000;

/** The flows that may pass, and which of them the gate lets pass now. Nobody has so many that others find no place. */
export class FlowTable {
  readonly #options: FlowTableOptions;
  readonly #flows = new Map<string, { readonly flow: Flow; readonly party: string }>();
  readonly #share: FairShare;
  #rest: Flow[] = [];
  #partSize = 0;
  #roundMs = -Infinity;

  constructor(options: FlowTableOptions) {
    this.#options = options;
    this.#share = options.share;
  }

  get size(): number {
    return this.#flows.size;
  }

  find(name: string): Flow | undefined {
    return this.#flows.get(name)?.flow;
  }

  all(): readonly Flow[] {
    return Array.from(this.#flows.values(), ({ flow }) => flow);
  }

  hasRoomFor(party: string): boolean {
    return this.#share.hasRoomFor(party);
  }

  add(flow: Flow, party: string): void {
    this.#flows.set(nameOfFlow(flow.key), { flow, party });
    this.#share.add(party, 1);
  }

  /** Lets a flow pass. Throws as `DatagramGate.admit`. */
  admit(flow: Flow): void {
    this.#options.gate.admit([flow.key]);
    flow.admittedMs = this.#nowMs();
  }

  /** Prolongs those that are in use and have not much left; lets the others go. */
  prolong(flows: readonly Flow[]): void {
    const { gate } = this.#options;
    const nowMs = this.#nowMs();
    for (const flow of flows) if (nowMs - flow.askedMs > KNOWN_MS) this.end(flow);
    const due = flows.filter(
      ({ askedMs, admittedMs }) =>
        admittedMs !== undefined && nowMs - askedMs < PASSES_MS && nowMs - admittedMs > gate.leaseMs / 4,
    );
    if (due.length === 0) return;
    gate.prolong(due.map(({ key }) => key));
    for (const flow of due) flow.admittedMs = nowMs;
  }

  /** Ends a flow. */
  end(flow: Flow): void {
    const name = nameOfFlow(flow.key);
    const known = this.#flows.get(name);
    if (known?.flow !== flow) return;
    this.#flows.delete(name);
    this.#share.add(known.party, -1);
    this.suspend(flow);
  }

  /** Lets a flow pass no more, until it is admitted again. Where the gate cannot be told, it ends there by itself. */
  suspend(flow: Flow): void {
    const { gate, onNotEnded } = this.#options;
    const { admittedMs } = flow;
    flow.admittedMs = undefined;
    if (admittedMs === undefined || this.#nowMs() - admittedMs > gate.leaseMs) return;
    try {
      gate.end([flow.key]);
    } catch (error) {
      onNotEnded(error);
    }
  }

  /** The gate lets none pass, and none is known. */
  forgetAll(): void {
    for (const { party } of this.#flows.values()) this.#share.add(party, -1);
    this.#flows.clear();
    this.#rest = [];
  }

  /** The next of as many parts, each flow in its turn, and none again before `everyMs` is over. */
  nextPart({ parts, everyMs }: { readonly parts: number; readonly everyMs: number }): readonly Flow[] {
    const nowMs = this.#nowMs();
    if (this.#rest.length === 0 && nowMs - this.#roundMs >= everyMs) {
      this.#rest = [...this.all()];
      this.#partSize = Math.ceil(this.#rest.length / parts);
      this.#roundMs = nowMs;
    }
    const part = this.#rest.splice(0, this.#partSize);
    return part.filter((flow) => this.find(nameOfFlow(flow.key)) === flow);
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs();
  }
}
