import type { Clock } from '../../../shared/runtime/clock.ts';
import type { ConnectionGuard } from './connection-guard.ts';

/** How often a drain looks for connections that have become idle. */
const LOOK_MS = 20;

/** Waits until every connection has answered its requests, closing each as it becomes idle, at most `drainMs`; then ends the rest. */
export async function drainConnections(
  guard: ConnectionGuard,
  options: { readonly drainMs: number; readonly clock: Clock },
): Promise<void> {
  const endMs = options.clock.monotonicMs() + options.drainMs;
  for (;;) {
    guard.closeIdle();
    if (guard.size === 0) return;
    if (options.clock.monotonicMs() >= endMs) break;
    await new Promise<void>((resolve) => options.clock.schedule(LOOK_MS, resolve));
  }
  guard.closeAll();
}
