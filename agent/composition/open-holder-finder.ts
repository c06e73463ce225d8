import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { HolderScanner, ScannerKind } from '../native/holder-scanner.ts';
import type { HolderFinder } from '../workload-attestation/holder-finder.ts';

/** The adapters of `HolderFinder`, which only the composition root may name. */
export interface HolderFinderAdapters {
  /** Throws where the kernel cannot. */
  readonly openScanner: (kind: ScannerKind) => HolderScanner;
  readonly kernel: (scanner: HolderScanner) => HolderFinder;
  readonly thread: (clock: Clock) => HolderFinder;
}

/** Fastest first. */
const SCANNERS: readonly ScannerKind[] = ['bpf_walk', 'bpf_iterator'];

/** The fastest finder that this kernel and the agent's privileges allow. Which one it is, and why none before it, is logged. */
export function openHolderFinder(
  adapters: HolderFinderAdapters,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
): HolderFinder {
  const finder = openKernelFinder(adapters, log) ?? adapters.thread(clock);
  log.info('holder_search', { by: finder.search });
  return finder;
}

function openKernelFinder(adapters: HolderFinderAdapters, log: Log): HolderFinder | undefined {
  for (const kind of SCANNERS) {
    try {
      return adapters.kernel(adapters.openScanner(kind));
    } catch (error) {
      log.warn('holder_search_unavailable', { by: kind, error: toPicketError(error) });
    }
  }
  return undefined;
}
