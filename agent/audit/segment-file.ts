import { closeSync, fdatasync, fdatasyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { isDiskFull } from './disk-full.ts';

/** The open file of the segment that is written. */
export class SegmentFile {
  readonly #path: string;
  readonly #fd: number;
  #isSyncing = false;
  #isClosed = false;

  /** Opens the file and puts on disk what an earlier run left in the page cache. Throws what the file system says. */
  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, 'a');
    fdatasyncSync(this.#fd);
  }

  /**
   * One write behind `size`, where the file ends. Returns false when the disk is too full to take all; what it took is cut off again, so that
   * the next record stands where this one would have. Throws when it cannot be cut off, and when the disk failed.
   */
  append(bytes: Buffer, size: number): boolean {
    if (this.#write(bytes) === bytes.length) return true;
    ftruncateSync(this.#fd, size);
    return false;
  }

  /** Throws what the disk says. */
  syncNow(): void {
    fdatasyncSync(this.#fd);
  }

  /** Syncs off the event loop. `done` is called in any case, also after `close`. */
  sync(done: (error: Error | null) => void): void {
    this.#isSyncing = true;
    fdatasync(this.#fd, (error) => {
      this.#isSyncing = false;
      if (this.#isClosed) closeSync(this.#fd);
      done(error);
    });
  }

  /** Writes everything behind `size` once more, durably. Throws when the disk does not take it. */
  rewriteFrom(size: number, bytes: Buffer): void {
    ftruncateSync(this.#fd, size);
    if (bytes.length > 0 && writeSync(this.#fd, bytes) !== bytes.length)
      throw new Error(`Cannot write ${bytes.length} bytes to ${this.#path}`);
    fdatasyncSync(this.#fd);
  }

  /** The number of the descriptor must not be reused under a running fdatasync, whose completion closes it then. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (!this.#isSyncing) closeSync(this.#fd);
  }

  #write(bytes: Buffer): number {
    try {
      return writeSync(this.#fd, bytes);
    } catch (error) {
      if (isDiskFull(error)) return 0;
      throw error;
    }
  }
}
