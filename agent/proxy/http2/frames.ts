import { MIN_MAX_FRAME_BYTES, type FrameHeader } from '../../../shared/wire/http2-frame.ts';
import { FrameReader, type FrameFate, type FrameSink } from '../../../shared/wire/http2-frame-reader.ts';

/** What becomes of the frames of a direction that are only handed on. Buffers are good only during the call. */
export interface Http2FrameEvents {
  onPass(bytes: Buffer, start: number, end: number): void;
  /** So many bytes of DATA were thrown away: they count in the window of the connection all the same. */
  onDropped(bytes: number): void;
  readonly hasWaiting: boolean;
  onBoundary(): void;
}

/** One direction of HTTP/2 through a relay, frame by frame. What becomes of each, `onHeader` and `onFrame` of its kind say. */
export abstract class Http2Frames implements FrameSink {
  protected readonly reader = new FrameReader(this, MIN_MAX_FRAME_BYTES);
  readonly #events: Http2FrameEvents;
  #droppedBytes = 0;

  constructor(events: Http2FrameEvents) {
    this.#events = events;
  }

  abstract onHeader(header: FrameHeader): FrameFate;

  abstract onFrame(
    header: FrameHeader,
    bytes: Buffer,
    payload: { readonly start: number; readonly end: number },
  ): void;

  /** As of `FrameReader`. */
  get passingStreamId(): number | undefined {
    return this.reader.passingStreamId;
  }

  /** Whether nothing more is read until `release`. */
  get isHeld(): boolean {
    return this.reader.isHeld;
  }

  get hasWaiting(): boolean {
    return this.#events.hasWaiting;
  }

  take(bytes: Buffer): void {
    this.reader.take(bytes);
    this.#tellDropped();
  }

  release(): void {
    this.reader.release();
    this.#tellDropped();
  }

  onPass(bytes: Buffer, start: number, end: number): void {
    this.#events.onPass(bytes, start, end);
  }

  onBoundary(): void {
    this.#events.onBoundary();
  }

  /** Leaves a frame of DATA out. */
  protected drop({ length }: FrameHeader): FrameFate {
    this.#droppedBytes += length;
    return 'drop';
  }

  #tellDropped(): void {
    const dropped = this.#droppedBytes;
    this.#droppedBytes = 0;
    if (dropped > 0) this.#events.onDropped(dropped);
  }
}
