import { http2Failure } from './http2-error.ts';
import { FRAME_HEADER_BYTES, readFrameHeader, type FrameHeader } from './http2-frame.ts';

/**
 * What becomes of a frame, said on its header alone: passed as it came, in pieces if it comes so; left out; given to `onFrame` once it is whole; or not yet: nothing is
 * read before `release`, and then the header is shown again.
 */
export type FrameFate = 'pass' | 'drop' | 'whole' | 'hold';

/** Who decides about frames. All ranges and the header are good only during the call. */
export interface FrameSink {
  onHeader(header: FrameHeader): FrameFate;
  /** A whole frame; its payload is in `bytes` from `start` to `end`. */
  onFrame(
    header: FrameHeader,
    bytes: Buffer,
    payload: { readonly start: number; readonly end: number },
  ): void;
  /** Bytes of one or several frames that pass. */
  onPass(bytes: Buffer, start: number, end: number): void;
  /** Whether something waits to be put between two frames. */
  readonly hasWaiting: boolean;
  /** Everything before has passed whole: what waits may go. */
  onBoundary(): void;
}

const NOTHING = Buffer.alloc(0);

/** Cuts one direction of HTTP/2 into its frames. Runs of frames that pass stay together, and nothing of them is copied. */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #header: FrameHeader = { length: 0, type: 0, flags: 0, streamId: 0 };
  /** The longest payload of a frame that must be whole. */
  maxWholeBytes: number;
  /** What was not read yet: the beginning of a header or of a frame that must be whole, or what came while held. */
  #kept: Buffer = NOTHING;
  /** Whether a frame that must be whole has begun: its header was shown. */
  #isWithinWhole = false;
  /** Bytes to come of a frame that passes or is left out. */
  #left = 0;
  #isDropping = false;
  #isHeld = false;
  /** Whether frames before the one whose header is shown are to pass, and have not. */
  #hasRun = false;

  constructor(sink: FrameSink, maxWholeBytes: number) {
    this.#sink = sink;
    this.maxWholeBytes = maxWholeBytes;
  }

  /** Whether a part of a frame has passed, and not the rest. */
  get isWithinPassing(): boolean {
    return this.#left > 0 && !this.#isDropping;
  }

  /** Whether what passes now ends with a whole frame, so that another may be put behind it. */
  get isAtBoundary(): boolean {
    return !this.isWithinPassing && !this.#hasRun;
  }

  /** Of whose frame a part has passed, and not the rest: 0 for the connection's, undefined for none. */
  get passingStreamId(): number | undefined {
    return this.isWithinPassing ? this.#header.streamId : undefined;
  }

  /** Of which type a frame is that must be whole and has begun; undefined for none. */
  get wholeType(): number | undefined {
    return this.#isWithinWhole ? this.#header.type : undefined;
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** Nothing more is read until `release`; what comes meanwhile is kept. */
  hold(): void {
    this.#isHeld = true;
  }

  /** Reads on. */
  release(): void {
    this.#isHeld = false;
    this.take(NOTHING);
  }

  /** Reads `bytes`. Throws `http2_frame_size_error` for a frame that must be whole and is too long, and whatever the sink throws. */
  take(bytes: Buffer): void {
    const all = this.#kept.length === 0 ? bytes : Buffer.concat([this.#kept, bytes]);
    this.#kept = NOTHING;
    const end = this.#isHeld ? 0 : this.#read(all);
    if (end < all.length) this.#kept = Buffer.from(all.subarray(end));
    if (!this.isWithinPassing && this.#sink.hasWaiting) this.#sink.onBoundary();
  }

  /** Returns where it stopped. */
  #read(bytes: Buffer): number {
    const sink = this.#sink;
    const { length } = bytes;
    let at = 0;
    /** Where what passes and was not passed yet begins. */
    let run = 0;
    while (at < length && !this.#isHeld) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, length - at);
        this.#left -= taken;
        at += taken;
        if (this.#isDropping) run = at;
        continue;
      }
      if (sink.hasWaiting) {
        if (run < at) sink.onPass(bytes, run, at);
        run = at;
        sink.onBoundary();
      }
      if (length - at < FRAME_HEADER_BYTES) break;
      readFrameHeader(bytes, at, this.#header);
      const fate = this.#isWithinWhole ? 'whole' : this.#show(run < at);
      if (fate === 'pass') {
        this.#isDropping = false;
        this.#left = this.#header.length;
        at += FRAME_HEADER_BYTES;
        continue;
      }
      if (run < at) sink.onPass(bytes, run, at);
      run = at;
      const end = this.#goOn(fate, bytes, at);
      if (end === at) break;
      at = run = end;
    }
    if (run < at) sink.onPass(bytes, run, at);
    return at;
  }

  #show(hasRun: boolean): FrameFate {
    this.#hasRun = hasRun;
    try {
      return this.#sink.onHeader(this.#header);
    } finally {
      this.#hasRun = false;
    }
  }

  /** Handles a frame at `at` that does not pass. Returns from where to read on; `at` for not yet. */
  #goOn(fate: 'drop' | 'whole' | 'hold', bytes: Buffer, at: number): number {
    const { length } = this.#header;
    const start = at + FRAME_HEADER_BYTES;
    if (fate === 'drop') {
      this.#isDropping = true;
      this.#left = length;
      return start;
    }
    if (fate === 'hold') {
      this.#isHeld = true;
      return at;
    }
    if (length > this.maxWholeBytes)
      throw http2Failure('frame_size_error', `a frame has more than ${this.maxWholeBytes} bytes`);
    const end = start + length;
    this.#isWithinWhole = end > bytes.length;
    if (this.#isWithinWhole) return at;
    this.#sink.onFrame(this.#header, bytes, { start, end });
    return end;
  }
}
