/** A frame of ours among those that pass. */
interface Injection {
  readonly frame: Uint8Array;
  readonly onSent: (() => void) | undefined;
}

/** Frames of ours for one direction. They go at once where a frame may begin, and wait otherwise, in their order. */
export class Http2Injections {
  readonly #isBoundary: () => boolean;
  readonly #append: (frame: Uint8Array) => void;
  readonly #waiting: Injection[] = [];
  #waitingBytes = 0;

  constructor(isBoundary: () => boolean, append: (frame: Uint8Array) => void) {
    this.#isBoundary = isBoundary;
    this.#append = append;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Whether something waits that could go. */
  get canGo(): boolean {
    return this.#waiting.length > 0 && this.#isBoundary();
  }

  /** `onSent` is called when the frame has gone. */
  send(frame: Uint8Array, onSent?: () => void): void {
    if (this.#waiting.length === 0 && this.#isBoundary()) {
      this.#append(frame);
      onSent?.();
      return;
    }
    this.#waiting.push({ frame, onSent });
    this.#waitingBytes += frame.length;
  }

  /** A frame may begin here. */
  flush(): void {
    this.#waitingBytes = 0;
    for (const { frame, onSent } of this.#waiting.splice(0)) {
      this.#append(frame);
      onSent?.();
    }
  }
}
