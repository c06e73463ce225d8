/** Where time comes from. Code that judges validity or waits takes a clock, so that tests own time. */
export interface Clock {
  /** Wall-clock time in milliseconds since 1970. It can jump; use it for validity and for records only. */
  nowMs(): number;
  /** Milliseconds on a clock that never goes back, from an arbitrary start. Use it for durations and time-outs. */
  monotonicMs(): number;
  /** Calls `callback` once after `delayMs`, at once where that is negative (what it waits for is due already) but never from within, unless the returned function was called before. */
  schedule(delayMs: number, callback: () => void): () => void;
}

/** The machine's clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  schedule(delayMs, callback) {
    let timer: NodeJS.Timeout | undefined = setTimeout(
      callback,
      Math.max(0, Math.min(delayMs, MAX_TIMER_MS)),
    );
    timer.unref();
    return () => {
      clearTimeout(timer);
      // Whoever keeps the function must not keep the timer, with all that its callback holds: an idle connection had two of them.
      timer = undefined;
    };
  },
};

/** setTimeout fires at once beyond this (2^31 - 1 ms). */
const MAX_TIMER_MS = 2_147_483_647;
