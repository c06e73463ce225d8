import { PicketError } from '../../shared/errors/errors.ts';
import type { SocketHolder } from '../native/socket-holders.ts';

/** How holders are looked for: by a program of ours in the kernel, by the kernel's iterator, or by a scan of /proc. */
export const HOLDER_SEARCHES = ['bpf_walk', 'bpf_iterator', 'proc'] as const;
export type HolderSearch = (typeof HOLDER_SEARCHES)[number];

/** A process that held a socket at one moment, and what it was at that moment (see `SocketHolder.stamp`). */
export interface SeenHolder extends SocketHolder {
  readonly stamp: string;
}

/** Who held a socket: all of them at one moment. Or why there is no saying. */
export type Sighting =
  | { readonly kind: 'seen'; readonly holders: readonly SeenHolder[] }
  | { readonly kind: 'unseen'; readonly why: 'changed' | 'limit'; readonly pid: number | null };

/** Finds the processes that hold sockets. Port: `kernel-holder-finder.ts`, `thread-holder-finder.ts`. */
export interface HolderFinder {
  readonly search: HolderSearch;
  /** Whether `find` looks before it returns its promise; otherwise other things happen meanwhile. */
  readonly isImmediate: boolean;
  /**
   * Every process, except this one, that holds one of the sockets after the call was made: each process once a socket, for every socket that was asked
   * for. `known` is what was seen of some of them a moment ago: where looking everywhere takes long, it is enough to see whether those
   * hold them still. Rejects with `resource_exhausted`, reason `holder_scan_limit`, and with `unavailable`, reason `holder_scan_failed` or `bpf`.
   */
  find(
    inodes: ReadonlySet<number>,
    known?: ReadonlyMap<number, Sighting>,
  ): Promise<ReadonlyMap<number, Sighting>>;
  /** Refuses what is under way and all that comes. */
  close(): void;
}

/** What `find` rejects with when too much is asked at once. */
export function holderScanLimited(why: string): PicketError {
  return new PicketError(
    'resource_exhausted',
    'holder_scan_limit',
    `Cannot find a socket's processes: ${why}`,
  );
}

/** What `find` rejects with when it cannot look at all. */
export function holderScanFailed(why: string): PicketError {
  return new PicketError('unavailable', 'holder_scan_failed', `Cannot find a socket's processes: ${why}`);
}
