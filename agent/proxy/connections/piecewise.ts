import type { Clock } from '../../../shared/runtime/clock.ts';

/** Whether whoever works has time for a further step; asked before each. */
export type MayGoOn = () => boolean;

/** Work that is done in pieces. Nothing is done before `goOn`. */
export interface Piecewise {
  /** Goes on until it is asked to stop. Returns whether all of it is done. */
  goOn(mayGoOn: MayGoOn): boolean;
}

/** Time for a piece of so many milliseconds, counted from when it is first asked for. */
export function within(clock: Clock, ms: number): MayGoOn {
  let endMs: number | undefined;
  return () => {
    const nowMs = clock.monotonicMs();
    endMs ??= nowMs + ms;
    return nowMs < endMs;
  };
}
