import type { HolderScanner } from '../native/holder-scanner.ts';
import { holderScanFailed, type HolderFinder, type Sighting } from './holder-finder.ts';
import { sightingsOf } from './seen-holders.ts';

/** A finder by a program in the kernel: everything is seen within the call, on the thread of the caller. */
export function createKernelHolderFinder(scanner: HolderScanner): HolderFinder {
  return new KernelHolderFinder(scanner);
}

class KernelHolderFinder implements HolderFinder {
  readonly search: HolderScanner['kind'];
  readonly isImmediate = true;
  readonly #scanner: HolderScanner;
  #isClosed = false;

  constructor(scanner: HolderScanner) {
    this.search = scanner.kind;
    this.#scanner = scanner;
  }

  /** A socket with more holders than there is space for must not keep the others from being seen: then each is looked for by itself. */
  async find(inodes: ReadonlySet<number>): Promise<ReadonlyMap<number, Sighting>> {
    if (this.#isClosed) throw holderScanFailed('the agent is stopping');
    const scan = this.#scanner.scan(inodes, process.pid);
    if (scan.isComplete || inodes.size === 1) return sightingsOf(scan, inodes);
    return new Map(
      Array.from(inodes).flatMap((inode) => {
        const only = new Set([inode]);
        return [...sightingsOf(this.#scanner.scan(only, process.pid), only)];
      }),
    );
  }

  close(): void {
    this.#isClosed = true;
    this.#scanner.close();
  }
}
