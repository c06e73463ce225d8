import type { Clock } from '../../../shared/runtime/clock.ts';

const LOOK_MS = 20;

/** Waits until what is being ended has ended, for so long at most. */
export async function endWithin(
  ms: number,
  { clock, isEnded }: { readonly clock: Clock; readonly isEnded: () => boolean },
): Promise<void> {
  const endMs = clock.monotonicMs() + ms;
  while (!isEnded() && clock.monotonicMs() < endMs)
    await new Promise<void>((resolve) => void clock.schedule(LOOK_MS, resolve));
}
