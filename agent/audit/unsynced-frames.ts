interface Write {
  readonly lastSequence: number;
  /** Offset behind it. */
  readonly end: number;
}

const FIRST_BYTES = 64 * 1024;
/** What a slow disk made it grow beyond is given back. */
const KEPT_BYTES = 1024 * 1024;

/**
 * Copies of what was written behind the last fdatasync, one write behind the other in one buffer: an array for each write would be fresh memory each time, and the kernel fills
 * in fresh memory page by page.
 */
export class UnsyncedFrames {
  #bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #length = 0;
  #writes: Write[] = [];

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  /** All of it, good until the next call. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Records up to `lastSequence` were written. */
  push(lastSequence: number, bytes: Uint8Array): void {
    const end = this.#length + bytes.length;
    if (end > this.#bytes.length) this.#resize(Math.max(end, 2 * this.#bytes.length));
    this.#bytes.set(bytes, this.#length);
    this.#length = end;
    this.#writes.push({ lastSequence, end });
  }

  /** Records up to `sequence` are on disk. */
  synced(sequence: number): void {
    const behind = this.#writes.findIndex(({ lastSequence }) => lastSequence > sequence);
    const gone = this.#writes.splice(0, behind === -1 ? this.#writes.length : behind).at(-1)?.end ?? 0;
    if (gone === 0) return;
    this.#bytes.copyWithin(0, gone, this.#length);
    this.#length -= gone;
    this.#writes = this.#writes.map(({ lastSequence, end }) => ({ lastSequence, end: end - gone }));
    if (this.isEmpty && this.#bytes.length > KEPT_BYTES) this.#resize(FIRST_BYTES);
  }

  #resize(size: number): void {
    const bytes = Buffer.allocUnsafeSlow(size);
    bytes.set(this.bytes);
    this.#bytes = bytes;
  }
}
