import type { AccessRecord } from '../../../shared/protocol/audit.ts';

/** What metrics count of a decision. */
export type DecidedRecord = Pick<
  AccessRecord,
  | 'direction'
  | 'protocol'
  | 'decision'
  | 'would_deny'
  | 'reason'
  | 'latency_us'
  | 'caller_spiffe_id'
  | 'target_spiffe_id'
>;

/** What metrics count of all decisions of one kind. */
export type DecisionKind = Omit<DecidedRecord, 'latency_us'>;

/** What metrics want to know of the proxy; the mesh's own events are those of `MeshObserver`. */
export interface ProxyObserver {
  /** A decision was recorded. */
  decided(record: DecidedRecord): void;
  /** Counts decisions of one kind, each with how long it took in microseconds: as `decided` does, for those who have many. */
  counterOf(kind: DecisionKind): (latencyUs: number) => void;
}
