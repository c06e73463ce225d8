import { AggregatorRegistry, type Registry } from 'prom-client';
import type { SpoolStatus } from '../audit/spool.ts';
import type { WorkerMetric } from './worker-messages.ts';
import type { WorkerStatus } from './worker-slot.ts';

/** Metrics as a registry tells them in JSON. */
export type MetricsJson = readonly WorkerMetric[];

/** The counts of several processes as one. */
export function sumMetrics(parts: readonly MetricsJson[]): Registry {
  return AggregatorRegistry.aggregate(parts as unknown as Parameters<typeof AggregatorRegistry.aggregate>[0]);
}

/** The lanes of all workers as one spool; the numbers of the first are told, for there are several. */
export function sumSpools(spools: readonly SpoolStatus[]): SpoolStatus | undefined {
  const [first] = spools;
  if (first === undefined) return undefined;
  const sum = (of: (spool: SpoolStatus) => number): number =>
    spools.reduce((total, spool) => total + of(spool), 0);
  const refusing = spools.find((spool) => spool.refusing !== undefined)?.refusing;
  return {
    epoch: first.epoch,
    lastSequence: first.lastSequence,
    depth: sum(({ depth }) => depth),
    bytes: sum(({ bytes }) => bytes),
    refused: sum(({ refused }) => refused),
    ...(refusing === undefined ? {} : { refusing }),
    isHeldBack: spools.some(({ isHeldBack }) => isHeldBack),
  };
}

/** What is missing of the workers; undefined when all of them take connections. */
export function findMissingWorker(workers: readonly WorkerStatus[]): string | undefined {
  const missing = workers.filter(({ isReady }) => !isReady);
  if (missing.length === 0) return undefined;
  return `${missing.length} of ${workers.length} workers of the data path do not run`;
}
