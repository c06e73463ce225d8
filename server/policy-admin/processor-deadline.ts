import type { Clock } from '../../shared/runtime/clock.ts';

export interface ProcessorDeadlineOptions {
  /** What is granted, in milliseconds: over once as much time has gone by, and this process has had as much of its processors. */
  readonly grantedMs: number;
  /** Over whatever the process has had, in milliseconds. */
  readonly longestMs: number;
  /** What this process has had of its processors so far, in milliseconds. */
  readonly spentMs: () => number;
  readonly clock: Clock;
  readonly onOver: () => void;
}

/** A deadline for work of a thread of this process, which on a machine that is busy with other things is not work that takes long. The function that it returns ends it. */
export function startProcessorDeadline(options: ProcessorDeadlineOptions): () => void {
  const { grantedMs, longestMs, spentMs, clock, onOver } = options;
  const [startMs, spentBeforeMs] = [clock.monotonicMs(), spentMs()];
  let cancel = (): void => undefined;
  const look = (): void => {
    const waitedMs = clock.monotonicMs() - startMs;
    const leastMs = Math.min(waitedMs, spentMs() - spentBeforeMs);
    const leftMs = Math.min(grantedMs - leastMs, longestMs - waitedMs);
    if (leftMs <= 0) onOver();
    // Not in very small steps: what is left may be less than a timer tells apart.
    else cancel = clock.schedule(Math.max(1, leftMs), look);
  };
  look();
  return () => cancel();
}
