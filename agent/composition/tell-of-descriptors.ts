import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { DescriptorReserve } from '../native/descriptor-reserve.ts';

/** One line for all connections that are refused within this time, in milliseconds. */
const TELL_EVERY_MS = 10_000;

/** Logs that connections are refused for want of file descriptors: at once, and then now and then as long as it goes on. */
export function tellOfDescriptors(
  reserve: DescriptorReserve,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
): void {
  let toldAtMs = -Infinity;
  reserve.watch(() => {
    const nowMs = clock.monotonicMs();
    if (nowMs - toldAtMs < TELL_EVERY_MS) return;
    toldAtMs = nowMs;
    log.error('descriptors_short', { refused: reserve.refused, reserved: reserve.reserved });
  });
}
