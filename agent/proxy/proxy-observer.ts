import type { AccessRecord } from '../../shared/protocol/audit.ts';

/** What metrics want to know of the proxy; the mesh's own events are those of `MeshObserver`. */
export interface ProxyObserver {
  /** A decision was recorded. */
  decided(record: Pick<AccessRecord, 'direction' | 'protocol' | 'decision' | 'reason' | 'latency_us'>): void;
}
