import { http2Failure } from '../../shared/wire/http2-error.ts';
import {
  FLAG,
  FRAME,
  MIN_MAX_FRAME_BYTES,
  readUint31,
  type FrameHeader,
} from '../../shared/wire/http2-frame.ts';
import { FrameReader, type FrameFate, type FrameSink } from '../../shared/wire/http2-frame-reader.ts';
import { parseSettings, type Settings } from '../../shared/wire/http2-settings.ts';
import { HeaderBlockReader, type HeaderBlock } from './http2-header-block.ts';
import type { Prepared, Http2Preparer } from './http2-prepared.ts';
import type { Http2ResetRate } from './http2-reset-rate.ts';
import type { Http2Streams } from './http2-streams.ts';

/** What the client's frames turn out to be, beside those that pass. Buffers are good only during the call. */
export interface Http2RequestEvents {
  /** Whether the application has been told that somebody speaks HTTP/2. Nothing passes before. */
  readonly isGreeted: boolean;
  onPass(bytes: Buffer, start: number, end: number): void;
  onRequest(request: {
    readonly streamId: number;
    readonly isEnd: boolean;
    readonly prepared: Prepared;
  }): void;
  /** Trailers of an open stream, which end its request. */
  onTrailers(streamId: number, block: Uint8Array): void;
  /** An open stream goes on in a way that it must not. `isEnd`: the client has ended it with that. */
  onMalformed(streamId: number, why: string, isEnd: boolean): void;
  onSettings(settings: Settings): void;
  /** The window of the connection is larger by so many bytes. */
  onWindow(increment: number): void;
  /** PING while nobody else answers it. */
  onPing(payload: Uint8Array): void;
  /** So many bytes of DATA were thrown away: they count in the window of the connection all the same. */
  onDropped(bytes: number): void;
  readonly hasWaiting: boolean;
  onBoundary(): void;
}

export interface Http2RequestsOptions {
  readonly streams: Http2Streams;
  readonly preparer: Http2Preparer;
  readonly resets: Http2ResetRate;
  readonly events: Http2RequestEvents;
}

/** Reads what a client sends. Whatever its methods throw ends the connection, with the error that the reason names. */
export class Http2Requests implements FrameSink {
  readonly #options: Http2RequestsOptions;
  readonly #reader = new FrameReader(this, MIN_MAX_FRAME_BYTES);
  readonly #blocks = new HeaderBlockReader();
  #hasSettings = false;
  #isOwnAcknowledged = false;
  #droppedBytes = 0;
  #count = 0;

  constructor(options: Http2RequestsOptions) {
    this.#options = options;
  }

  /** How many requests were read. */
  get count(): number {
    return this.#count;
  }

  /** Whether a frame may begin towards the application. */
  get isAtBoundary(): boolean {
    return !this.#reader.isWithinPassing;
  }

  /** Whether a header block, or another frame that must be whole, has begun and not ended. */
  get isWithinHead(): boolean {
    return this.#blocks.streamId !== 0 || this.#reader.isWithinWhole;
  }

  get hasWaiting(): boolean {
    return this.#options.events.hasWaiting;
  }

  set maxFrameBytes(bytes: number) {
    this.#reader.maxWholeBytes = bytes;
  }

  take(bytes: Buffer): void {
    this.#reader.take(bytes);
    this.#tellDropped();
  }

  hold(): void {
    this.#reader.hold();
  }

  get isHeld(): boolean {
    return this.#reader.isHeld;
  }

  release(): void {
    this.#reader.release();
    this.#tellDropped();
  }

  onHeader(header: FrameHeader): FrameFate {
    const { type, flags, streamId } = header;
    if (!this.#hasSettings && (type !== FRAME.settings || (flags & FLAG.ack) !== 0))
      throw http2Failure('protocol_error', 'the first frame is not SETTINGS');
    const block = this.#blocks.streamId;
    if (
      (block !== 0 || type === FRAME.continuation) &&
      (type !== FRAME.continuation || streamId !== block || block === 0)
    )
      throw http2Failure('protocol_error', 'a header block is interrupted, or goes on without having begun');
    if (type === FRAME.data) return this.#onData(header);
    if (type === FRAME.headers || type === FRAME.continuation) return 'whole';
    if (type === FRAME.rstStream) return this.#onReset(header);
    if (type === FRAME.settings) return this.#onSettingsHeader(header);
    if (type === FRAME.pushPromise) throw http2Failure('protocol_error', 'a client pushes');
    return streamId === 0 ? this.#onConnectionFrame(header) : this.#onStreamFrame(header);
  }

  onFrame(
    header: FrameHeader,
    bytes: Buffer,
    payload: { readonly start: number; readonly end: number },
  ): void {
    const { events } = this.#options;
    const { start, end } = payload;
    if (header.type === FRAME.headers) this.#takeBlock(this.#beginBlock(header, bytes, payload));
    else if (header.type === FRAME.continuation) this.#takeBlock(this.#blocks.goOn(header, bytes, payload));
    else if (header.type === FRAME.settings) {
      this.#hasSettings = true;
      events.onSettings(parseSettings(bytes, payload));
    } else if (header.type === FRAME.windowUpdate) events.onWindow(readUint31(bytes, start));
    else if (header.type === FRAME.ping) events.onPing(bytes.subarray(start, end));
    else if (header.type === FRAME.priority) requirePriority(header, bytes, start);
  }

  onPass(bytes: Buffer, start: number, end: number): void {
    this.#options.events.onPass(bytes, start, end);
  }

  onBoundary(): void {
    this.#options.events.onBoundary();
  }

  #onData({ streamId, flags, length }: FrameHeader): FrameFate {
    const { streams } = this.#options;
    const isEnd = (flags & FLAG.endStream) !== 0;
    if (!this.#isIdle(streamId) && streams.find(streamId) === undefined) {
      this.#droppedBytes += length;
      if (isEnd) streams.forgetRefused(streamId);
      return 'drop';
    }
    if (isEnd) streams.endRequest(streamId);
    return 'pass';
  }

  #onReset({ streamId }: FrameHeader): FrameFate {
    const { streams, resets } = this.#options;
    resets.count();
    if (streams.forgetRefused(streamId) || this.#isUnknownToApplication(streamId)) return 'drop';
    streams.close(streamId);
    return 'pass';
  }

  #onSettingsHeader({ flags, streamId, length }: FrameHeader): FrameFate {
    if (streamId !== 0) throw http2Failure('protocol_error', 'SETTINGS on a stream');
    if ((flags & FLAG.ack) === 0) return 'whole';
    if (length !== 0) throw http2Failure('frame_size_error', 'an acknowledgement of SETTINGS says something');
    // Ours were the first.
    if (this.#isOwnAcknowledged) return this.#passIfGreeted('SETTINGS are acknowledged that nobody sent');
    this.#isOwnAcknowledged = true;
    this.#options.preparer.expectNoTable();
    return 'drop';
  }

  #onConnectionFrame({ type, flags, length }: FrameHeader): FrameFate {
    if (type === FRAME.windowUpdate) {
      if (length !== 4) throw http2Failure('frame_size_error', 'WINDOW_UPDATE has not 4 bytes');
      return 'whole';
    }
    if (this.#options.events.isGreeted) return 'pass';
    if (type === FRAME.priority) throw http2Failure('protocol_error', 'PRIORITY of the connection');
    if (type !== FRAME.ping) return 'drop';
    if (length !== 8) throw http2Failure('frame_size_error', 'PING has not 8 bytes');
    return (flags & FLAG.ack) === 0 ? 'whole' : 'drop';
  }

  #onStreamFrame({ type, streamId }: FrameHeader): FrameFate {
    const { streams, events } = this.#options;
    if (streams.isRefused(streamId)) return 'drop';
    if (type === FRAME.priority) return events.isGreeted ? 'pass' : 'whole';
    return this.#isUnknownToApplication(streamId) ? 'drop' : 'pass';
  }

  /** Whether we answered that request ourselves: for the application the stream is one that nobody has opened. */
  #isUnknownToApplication(streamId: number): boolean {
    return !this.#isIdle(streamId) && streamId > this.#options.streams.lastPassedId;
  }

  /** Whether the client has not opened that stream, and the application will complain of it. */
  #isIdle(streamId: number): boolean {
    const isIdle = streamId > this.#options.streams.lastId || streamId === 0;
    if (isIdle) this.#passIfGreeted('a frame stands on a stream that nobody has opened');
    return isIdle;
  }

  #passIfGreeted(why: string): FrameFate {
    if (!this.#options.events.isGreeted) throw http2Failure('protocol_error', why);
    return 'pass';
  }

  #beginBlock(
    header: FrameHeader,
    bytes: Buffer,
    payload: { readonly start: number; readonly end: number },
  ): HeaderBlock | undefined {
    if ((header.streamId & 1) === 0)
      throw http2Failure('protocol_error', 'HEADERS on a stream that no client opens');
    return this.#blocks.begin(header, bytes, payload);
  }

  #takeBlock(block: HeaderBlock | undefined): void {
    if (block === undefined) return;
    const { streams, preparer, events } = this.#options;
    const { streamId, isEnd, bytes } = block;
    if (streamId <= streams.lastId) return this.#takeTrailers(block);
    streams.lastId = streamId;
    this.#count++;
    events.onRequest({ streamId, isEnd, prepared: preparer.prepareRequest(bytes, block) });
  }

  /** A second block is passed on only as the trailers of a request that goes on: a lax server might take it for another request. */
  #takeTrailers(block: HeaderBlock): void {
    const { streams, preparer, events } = this.#options;
    const { streamId, isEnd, bytes } = block;
    if (streams.isRefused(streamId)) {
      preparer.skip(bytes, block);
      if (isEnd) streams.forgetRefused(streamId);
      return;
    }
    const isGoingOn = streams.find(streamId)?.isRequestEnded === false;
    if (!isGoingOn) throw http2Failure('stream_closed', 'HEADERS on a stream that has ended');
    const trailers = preparer.prepareTrailers(bytes, block);
    if ('malformed' in trailers) return events.onMalformed(streamId, trailers.malformed, isEnd);
    if (!isEnd) return events.onMalformed(streamId, 'its trailers do not end it', false);
    events.onTrailers(streamId, trailers.block);
  }

  #tellDropped(): void {
    const dropped = this.#droppedBytes;
    this.#droppedBytes = 0;
    if (dropped > 0) this.#options.events.onDropped(dropped);
  }
}

/** What the application would check of it. */
function requirePriority({ length, streamId }: FrameHeader, bytes: Uint8Array, start: number): void {
  if (length !== 5) throw http2Failure('frame_size_error', 'PRIORITY has not 5 bytes');
  if (readUint31(bytes, start) === streamId)
    throw http2Failure('protocol_error', 'a stream depends on itself');
}
