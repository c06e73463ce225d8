import type { Clock } from '../../../shared/runtime/clock.ts';
import { LINGER_MS } from '../relays/relay-timer.ts';
import type { ByteStream } from './byte-stream.ts';

/** Ends streams and throws away what still comes; those that have not ended in turn after five seconds are broken. Resolves once all are over. */
export async function endInOrder(streams: readonly ByteStream[], clock: Clock): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const open = new Set(streams);
  const cancel = clock.schedule(LINGER_MS, () => {
    for (const stream of open) stream.abort();
    resolve();
  });
  for (const stream of streams) {
    const onClose = (): void => {
      open.delete(stream);
      if (open.size === 0) resolve();
    };
    stream.attach({ onData: ignore, onEnd: ignore, onDrain: ignore, onClose });
    stream.resume();
    stream.end();
  }
  await promise;
  cancel();
}

function ignore(): void {
  // Nobody wants it.
}
