/** Frames of ours for one direction. They go at once where a frame may begin, and wait otherwise, in their order. */
export class Http2Injections {
  readonly #isBoundary: () => boolean;
  readonly #append: (frame: Uint8Array) => void;
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #flushes = 0;

  constructor(isBoundary: () => boolean, append: (frame: Uint8Array) => void) {
    this.#isBoundary = isBoundary;
    this.#append = append;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** How often what waited has gone: while this stays the same, so does whatever waits. */
  get flushes(): number {
    return this.#flushes;
  }

  /** Whether something waits that could go. */
  get canGo(): boolean {
    return this.#waiting.length > 0 && this.#isBoundary();
  }

  send(frame: Uint8Array): void {
    if (this.#waiting.length === 0 && this.#isBoundary()) {
      this.#append(frame);
      return;
    }
    this.#waiting.push(frame);
    this.#waitingBytes += frame.length;
  }

  /** A frame may begin here. */
  flush(): void {
    this.#waitingBytes = 0;
    this.#flushes++;
    for (const frame of this.#waiting.splice(0)) this.#append(frame);
  }
}
