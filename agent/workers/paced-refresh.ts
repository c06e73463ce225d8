import type { Clock } from '../../shared/runtime/clock.ts';

/** A report costs each worker some milliseconds of its only thread, and every user of the host may ask. */
export const REFRESH_EVERY_MS = 250;

/** One refresh in `REFRESH_EVERY_MS`, however many ask: whoever asks sooner waits, and shares the next one. Each gets what is so after he asked. */
export function paceRefresh(refresh: () => Promise<void>, clock: Clock): () => Promise<void> {
  let lastMs = -Infinity;
  let next: Promise<void> | undefined;
  const begin = async (): Promise<void> => {
    lastMs = clock.monotonicMs();
    await refresh();
  };
  const beginAfter = async (delayMs: number): Promise<void> => {
    await new Promise<void>((resolve) => void clock.schedule(delayMs, resolve));
    next = undefined;
    await begin();
  };
  return async () => {
    const delayMs = lastMs + REFRESH_EVERY_MS - clock.monotonicMs();
    if (next === undefined && delayMs <= 0) return await begin();
    next ??= beginAfter(delayMs);
    await next;
  };
}
