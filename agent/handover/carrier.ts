import type { Clock } from '../../shared/runtime/clock.ts';

/** What carries the traffic of a host and writes down what it decides, as something that another process takes over from. Adapters: the agent's own data path, and workers. */
export interface Carrier {
  /** That are open now. */
  readonly connections: number;
  /** Writes its records where no other process does from now on. Rejects where it cannot; it goes on in any case. Harmless when called again. */
  moveAside(): Promise<void>;
  /** The other process is gone: writes them where it did before. Rejects where it cannot, and goes on. Harmless when called again. */
  moveBack(): Promise<void>;
  /** Takes nothing more at once; what is open goes on and is judged as before. Resolves once nothing is open, or after `withinMs`. */
  drain(withinMs: number): Promise<void>;
  /** Resolves once the server has all records, or after `withinMs`. */
  settle(withinMs: number): Promise<void>;
  /** Ends the shipping of records. */
  stop(): Promise<void>;
}

/** How often is looked whether it is so, in milliseconds. */
const LOOK_EVERY_MS = 50;

/** Waits until `isSo`, or until `withinMs` are over. */
export async function waitWithin(
  { withinMs, clock }: { readonly withinMs: number; readonly clock: Pick<Clock, 'monotonicMs' | 'schedule'> },
  isSo: () => boolean | Promise<boolean>,
): Promise<void> {
  const endMs = clock.monotonicMs() + withinMs;
  while (!(await isSo()) && clock.monotonicMs() < endMs)
    await new Promise<void>((resolve) => void clock.schedule(LOOK_EVERY_MS, resolve));
}
