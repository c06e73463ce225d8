/** What must wait shares blocks of this size, so that a queue of single bytes costs no object for each. */
const BLOCK_BYTES = 16 * 1024;

interface Block {
  readonly bytes: Uint8Array;
  length: number;
}

/**
 * Copies of bytes that wait for a reader, in order. What the bounds of a connection count is bytes, so what is kept must cost about that: one piece
 * alone its own size, many pieces that of the blocks which they fill.
 */
export class HeldBytes {
  readonly #blocks: Block[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(bytes: Uint8Array): void {
    this.#length += bytes.length;
    const taken = this.#fillLast(bytes);
    if (taken === bytes.length) return;
    const rest = bytes.subarray(taken);
    // Mostly nothing follows what waits first.
    const size = this.#blocks.length === 0 ? rest.length : Math.max(BLOCK_BYTES, rest.length);
    const block = new Uint8Array(size);
    block.set(rest);
    this.#blocks.push({ bytes: block, length: rest.length });
  }

  /** The next that came, which is the caller's from then on. */
  shift(): Uint8Array | undefined {
    const block = this.#blocks.shift();
    if (block === undefined) return undefined;
    this.#length -= block.length;
    return block.bytes.subarray(0, block.length);
  }

  clear(): void {
    this.#blocks.length = 0;
    this.#length = 0;
  }

  #fillLast(bytes: Uint8Array): number {
    const last = this.#blocks.at(-1);
    if (last === undefined) return 0;
    const size = Math.min(last.bytes.length - last.length, bytes.length);
    last.bytes.set(size === bytes.length ? bytes : bytes.subarray(0, size), last.length);
    last.length += size;
    return size;
  }
}
