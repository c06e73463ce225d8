import type { Selector } from '../../shared/spiffe/selector.ts';

/** A process at one moment: the start time tells it from a later process with the same pid. */
export interface ProcessReference {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, clock ticks since boot. */
  readonly startTime: bigint;
}

/** One way to learn facts of a process. Port: `unix.ts`. */
export interface WorkloadAttestor {
  readonly type: string;
  /**
   * What is true of the process, as selectors. Empty when there is nothing of this kind to say. Rejects with `not_found`, reason `process_gone`, when it has
   * ended or changed meanwhile: its facts must then not be used.
   */
  attest(process: ProcessReference): Promise<readonly Selector[]>;
}
