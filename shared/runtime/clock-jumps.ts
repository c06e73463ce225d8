import type { Clock } from './clock.ts';

/** How often the clock is looked at. */
export const LOOK_EVERY_MS = 1000;
/** What is slower than this is a clock that is being set right, not one that was set. */
export const JUMP_MS = 1000;

/** Calls `onJump` whenever somebody has set the wall clock, either way: what is judged by time is to be judged again. The returned function ends it. */
export function watchClockJumps(clock: Clock, onJump: () => void): () => void {
  const offsetMs = (): number => clock.nowMs() - clock.monotonicMs();
  let knownMs = offsetMs();
  let cancel: () => void;
  const look = (): void => {
    const nowMs = offsetMs();
    const hasJumped = Math.abs(nowMs - knownMs) >= JUMP_MS;
    knownMs = nowMs;
    cancel = clock.schedule(LOOK_EVERY_MS, look);
    if (hasJumped) onJump();
  };
  cancel = clock.schedule(LOOK_EVERY_MS, look);
  return () => cancel();
}
