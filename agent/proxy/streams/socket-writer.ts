import { HIGH_WATER_BYTES } from './byte-stream.ts';

/** What `SocketWriter` needs of a Bun socket: `write` takes what fits and returns how much, -1 when closed. */
export interface WritableSocket {
  write(bytes: Uint8Array, byteOffset: number, byteLength: number): number;
}

interface Block {
  readonly bytes: Uint8Array;
  start: number;
  end: number;
}

/** Small writes that must wait share blocks of this size, so that a queue of single bytes costs no object for each. */
const BLOCK_BYTES = 16 * 1024;

/** The write side of a socket: what the kernel does not take at once waits as a copy, in order. */
export class SocketWriter {
  readonly #socket: WritableSocket;
  readonly #blocks: Block[] = [];
  #waitingBytes = 0;

  constructor(socket: WritableSocket) {
    this.#socket = socket;
  }

  /** Bytes that the kernel has not taken. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  get isEmpty(): boolean {
    return this.#waitingBytes === 0;
  }

  /** Whether more than `HIGH_WATER_BYTES` wait. */
  get isFull(): boolean {
    return this.#waitingBytes > HIGH_WATER_BYTES;
  }

  /** Sends the range from `start` to `end`, or keeps a copy of what could not go. */
  write(bytes: Uint8Array, start: number, end: number): void {
    let from = start;
    if (this.#waitingBytes === 0) from += Math.max(0, this.#socket.write(bytes, start, end - start));
    if (from < end) this.#keep(bytes.subarray(from, end));
  }

  /** Sends what waits, as far as the kernel takes it. True when nothing waits any more. */
  flush(): boolean {
    for (let block = this.#blocks[0]; block !== undefined; block = this.#blocks[0]) {
      const length = block.end - block.start;
      const sent = Math.max(0, this.#socket.write(block.bytes, block.start, length));
      this.#waitingBytes -= sent;
      block.start += sent;
      if (sent < length) return false;
      this.#blocks.shift();
    }
    return true;
  }

  /** Forgets what waits. */
  clear(): void {
    this.#blocks.length = 0;
    this.#waitingBytes = 0;
  }

  #keep(bytes: Uint8Array): void {
    this.#waitingBytes += bytes.length;
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.bytes.length - last.end >= bytes.length) {
      last.bytes.set(bytes, last.end);
      last.end += bytes.length;
      return;
    }
    const block = new Uint8Array(Math.max(BLOCK_BYTES, bytes.length));
    block.set(bytes);
    this.#blocks.push({ bytes: block, start: 0, end: bytes.length });
  }
}
