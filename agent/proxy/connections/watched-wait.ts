import type { StreamFailure } from '../streams/byte-stream.ts';
import type { OpenConnection, OpenConnections } from './connections.ts';

/** A connection lost its permit while it was waited for. */
export interface Cut {
  readonly kind: 'cut';
  readonly failure: StreamFailure;
}

/** Waits for what somebody does on a connection that is being set up, while it is judged again like those that are open. */
export async function waitWatched<T>(
  connections: OpenConnections,
  { party, round, reconsider }: Pick<OpenConnection, 'party' | 'reconsider'> & { readonly round: number },
  what: Promise<T>,
): Promise<T | Cut> {
  const { promise, resolve } = Promise.withResolvers<Cut>();
  const cut = (failure: StreamFailure): void => resolve({ kind: 'cut', failure });
  const forget = connections.watch({ party, reconsider, cut }, round);
  try {
    return await Promise.race([promise, what]);
  } finally {
    forget?.();
  }
}
