import { http2Failure } from '../../../shared/wire/http2-error.ts';
import {
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  readUint31,
  type FrameHeader,
} from '../../../shared/wire/http2-frame.ts';
import type { FrameFate } from '../../../shared/wire/http2-frame-reader.ts';
import { parseSettings, type Settings } from '../../../shared/wire/http2-settings.ts';
import { LONGER, SHORTER } from './body-length.ts';
import { Http2Frames, type Http2FrameEvents } from './frames.ts';
import { HeaderBlockReader, type HeaderBlock } from './header-block.ts';
import type { Prepared, Http2Preparer } from './prepared.ts';
import type { Http2ResetRate } from './reset-rate.ts';
import type { Http2Streams, OpenStream } from './streams.ts';

/** What the client's frames turn out to be, beside those that pass. Buffers are good only during the call. */
export interface Http2RequestEvents extends Http2FrameEvents {
  /** Whether the application has been told that somebody speaks HTTP/2. Nothing passes before. */
  readonly isGreeted: boolean;
  onRequest(request: {
    readonly streamId: number;
    readonly isEnd: boolean;
    readonly prepared: Prepared;
  }): void;
  /** Trailers of an open stream, which end its request. */
  onTrailers(streamId: number, block: Uint8Array): void;
  /** DATA of a stream that its client has ended or reset, or that is over in another way; once for each, until that was told many streams ago. */
  onClosed(streamId: number): void;
  /** An open stream goes on in a way that it must not. `isEnd`: the client has ended it with that. */
  onMalformed(streamId: number, why: string, isEnd: boolean): void;
  onSettings(settings: Settings): void;
  /** The window of the connection is larger by so many bytes. */
  onWindow(increment: number): void;
  /** PING while nobody else answers it. */
  onPing(payload: Uint8Array): void;
}

export interface Http2RequestsOptions {
  readonly streams: Http2Streams;
  readonly preparer: Http2Preparer;
  readonly resets: Http2ResetRate;
  readonly events: Http2RequestEvents;
}

/** Reads what a client sends. Whatever its methods throw ends the connection, with the error that the reason names. */
export class Http2Requests extends Http2Frames {
  readonly #options: Http2RequestsOptions;
  readonly #blocks = new HeaderBlockReader();
  #hasSettings = false;
  #isOwnAcknowledged = false;
  #count = 0;

  constructor(options: Http2RequestsOptions) {
    super(options.events);
    this.#options = options;
  }

  /** How many requests were read. */
  get count(): number {
    return this.#count;
  }

  /** Whether a frame may begin towards the application. */
  get isAtBoundary(): boolean {
    return this.reader.isAtBoundary;
  }

  /** Whether a header block, or another frame that must be whole and is not of a body, has begun and not ended. */
  get isWithinHead(): boolean {
    const { wholeType } = this.reader;
    return this.#blocks.streamId !== 0 || (wholeType !== undefined && wholeType !== FRAME.data);
  }

  set maxFrameBytes(bytes: number) {
    this.reader.maxWholeBytes = bytes;
  }

  hold(): void {
    this.reader.hold();
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
    if (header.type === FRAME.data) this.#takePadded(header, bytes, payload);
    else if (header.type === FRAME.headers) this.#takeBlock(this.#beginBlock(header, bytes, payload));
    else if (header.type === FRAME.continuation) this.#takeBlock(this.#blocks.goOn(header, bytes, payload));
    else if (header.type === FRAME.settings) {
      this.#hasSettings = true;
      events.onSettings(parseSettings(bytes, payload));
    } else if (header.type === FRAME.windowUpdate) events.onWindow(readUint31(bytes, start));
    else if (header.type === FRAME.ping) events.onPing(bytes.subarray(start, end));
    else if (header.type === FRAME.priority) requirePriority(header, bytes, start);
  }

  #onData(header: FrameHeader): FrameFate {
    const { streamId, flags, length } = header;
    const stream = this.#options.streams.find(streamId);
    if (stream?.isRequestEnded !== false) return this.#onUnwanted(header);
    if (stream.bodyBytesLeft === undefined || (flags & FLAG.padded) === 0)
      return this.#onBody(header, stream, length);
    // How much of it is padding stands within it.
    return length <= this.reader.maxWholeBytes
      ? 'whole'
      : this.#onMisfit(header, 'a frame with padding is too long');
  }

  /** It may be over since its header was seen. */
  #takePadded(
    header: FrameHeader,
    bytes: Buffer,
    { start, end }: { readonly start: number; readonly end: number },
  ): void {
    const stream = this.#options.streams.find(header.streamId);
    const contentBytes = header.length - 1 - (bytes[start] ?? 0);
    if (contentBytes < 0) throw http2Failure('protocol_error', 'DATA is shorter than its padding');
    if (stream?.isRequestEnded !== false) this.#onUnwanted(header);
    else if (this.#onBody(header, stream, contentBytes) === 'pass')
      this.onPass(bytes, start - FRAME_HEADER_BYTES, end);
  }

  /** A body is as long as its request says (RFC 9113 8.1.1), or who reads it by that length finds another request behind it, which nobody has decided. */
  #onBody(header: FrameHeader, stream: OpenStream, contentBytes: number): FrameFate {
    const isEnd = (header.flags & FLAG.endStream) !== 0;
    if (stream.bodyBytesLeft !== undefined) {
      stream.bodyBytesLeft -= contentBytes;
      if (stream.bodyBytesLeft < 0) return this.#onMisfit(header, LONGER);
      if (isEnd && stream.bodyBytesLeft > 0) return this.#onMisfit(header, SHORTER);
    }
    if (isEnd) this.#options.streams.endRequest(header.streamId);
    return 'pass';
  }

  #onMisfit(header: FrameHeader, why: string): FrameFate {
    this.#options.events.onMalformed(header.streamId, why, (header.flags & FLAG.endStream) !== 0);
    return this.drop(header);
  }

  /** What nobody wants any more counts in the window of the connection all the same. Only who may not know that it is over, because we have ended it, is not told so. */
  #onUnwanted(header: FrameHeader): FrameFate {
    const { streamId, flags } = header;
    const { streams, events } = this.#options;
    const isEnd = (flags & FLAG.endStream) !== 0;
    this.#requireOpened(streamId);
    if (!streams.isRefused(streamId)) events.onClosed(streamId);
    else if (isEnd) streams.forgetRefused(streamId);
    return this.drop(header);
  }

  #onReset({ streamId, length }: FrameHeader): FrameFate {
    const { streams, resets } = this.#options;
    if (length !== 4) throw http2Failure('frame_size_error', 'RST_STREAM has not 4 bytes');
    this.#requireOpened(streamId);
    resets.count();
    if (streams.forgetRefused(streamId) || streams.find(streamId) === undefined) return 'drop';
    streams.close(streamId);
    return 'pass';
  }

  #onSettingsHeader({ flags, streamId, length }: FrameHeader): FrameFate {
    if (streamId !== 0) throw http2Failure('protocol_error', 'SETTINGS on a stream');
    if ((flags & FLAG.ack) === 0) return 'whole';
    if (length !== 0) throw http2Failure('frame_size_error', 'an acknowledgement of SETTINGS says something');
    // Ours were the first.
    if (this.#isOwnAcknowledged) return this.#passAcknowledgement();
    this.#isOwnAcknowledged = true;
    this.#options.preparer.expectNoTable();
    return 'drop';
  }

  #passAcknowledgement(): FrameFate {
    if (this.#options.events.isGreeted) return 'pass';
    throw http2Failure('protocol_error', 'SETTINGS are acknowledged that nobody sent');
  }

  #onConnectionFrame({ type, flags, length }: FrameHeader): FrameFate {
    if (type === FRAME.windowUpdate) {
      requireWindowUpdate(length);
      return 'whole';
    }
    if (this.#options.events.isGreeted) return 'pass';
    if (type === FRAME.priority) throw http2Failure('protocol_error', 'PRIORITY of the connection');
    if (type !== FRAME.ping) return 'drop';
    if (length !== 8) throw http2Failure('frame_size_error', 'PING has not 8 bytes');
    return (flags & FLAG.ack) === 0 ? 'whole' : 'drop';
  }

  /** The application hears nothing of a stream that is not open: of one that was answered here it knows nothing, and the end of any other one it has seen. */
  #onStreamFrame({ type, streamId, length }: FrameHeader): FrameFate {
    const { streams, events } = this.#options;
    if (type === FRAME.priority) return events.isGreeted && !streams.isRefused(streamId) ? 'pass' : 'whole';
    if (type === FRAME.ping || type === FRAME.goAway)
      throw http2Failure('protocol_error', 'a frame of the connection stands on a stream');
    if (type === FRAME.windowUpdate) {
      requireWindowUpdate(length);
      this.#requireOpened(streamId);
    }
    return streams.find(streamId) === undefined ? 'drop' : 'pass';
  }

  /** Nothing but HEADERS and PRIORITY stands on a stream that its client has not opened (RFC 9113 5.1); nobody else opens any. */
  #requireOpened(streamId: number): void {
    if ((streamId & 1) === 0 || streamId > this.#options.streams.lastId)
      throw http2Failure('protocol_error', 'a frame stands on a stream that nobody has opened');
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
    const stream = streams.find(streamId);
    if (stream?.isRequestEnded !== false)
      throw http2Failure('stream_closed', 'HEADERS on a stream that has ended');
    const trailers = preparer.prepareTrailers(bytes, block);
    if ('malformed' in trailers) return events.onMalformed(streamId, trailers.malformed, isEnd);
    if (!isEnd) return events.onMalformed(streamId, 'its trailers do not end it', false);
    if ((stream.bodyBytesLeft ?? 0) > 0) return events.onMalformed(streamId, SHORTER, true);
    events.onTrailers(streamId, trailers.block);
  }
}

function requireWindowUpdate(length: number): void {
  if (length !== 4) throw http2Failure('frame_size_error', 'WINDOW_UPDATE has not 4 bytes');
}

/** What the application would check of it. */
function requirePriority({ length, streamId }: FrameHeader, bytes: Uint8Array, start: number): void {
  if (length !== 5) throw http2Failure('frame_size_error', 'PRIORITY has not 5 bytes');
  if (readUint31(bytes, start) === streamId)
    throw http2Failure('protocol_error', 'a stream depends on itself');
}
