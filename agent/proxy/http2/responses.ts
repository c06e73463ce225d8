import { http2Failure } from '../../../shared/wire/http2-error.ts';
import { FLAG, FRAME, type FrameHeader } from '../../../shared/wire/http2-frame.ts';
import type { FrameFate } from '../../../shared/wire/http2-frame-reader.ts';
import { parseSettings, type Settings } from '../../../shared/wire/http2-settings.ts';
import { Http2Frames, type Http2FrameEvents } from './frames.ts';
import type { Http2ResetRate } from './reset-rate.ts';
import type { Http2Streams } from './streams.ts';
import type { Http2Window } from './window.ts';

/** What the application's frames turn out to be, beside those that pass. Buffers are good only during the call. */
export interface Http2ResponseEvents extends Http2FrameEvents {
  onSettings(settings: Settings): void;
  /** It acknowledges SETTINGS. False: the client has had its acknowledgement. */
  onAcknowledged(): boolean;
}

export interface Http2ResponsesOptions {
  readonly streams: Http2Streams;
  readonly window: Http2Window;
  readonly resets: Http2ResetRate;
  readonly events: Http2ResponseEvents;
}

/** Reads what an application sends. Header blocks pass unread: nothing of them is decided. Throws where it does not speak HTTP/2. */
export class Http2Responses extends Http2Frames {
  readonly #options: Http2ResponsesOptions;
  #hasSettings = false;
  /** Of a header block that has passed in part; 0 for none. */
  #blockStreamId = 0;

  constructor(options: Http2ResponsesOptions) {
    super(options.events);
    this.#options = options;
  }

  /** Whether a frame may begin towards the client: neither within another, nor within a header block. */
  get isAtBoundary(): boolean {
    return this.#blockStreamId === 0 && this.reader.isAtBoundary;
  }

  onHeader(header: FrameHeader): FrameFate {
    const { type, flags, streamId } = header;
    if (!this.#hasSettings && (type !== FRAME.settings || (flags & FLAG.ack) !== 0))
      throw http2Failure('protocol_error', 'the application does not answer in HTTP/2');
    if (this.#blockStreamId !== 0 && (type !== FRAME.continuation || streamId !== this.#blockStreamId))
      throw http2Failure('protocol_error', 'the application interrupts a header block');
    // A stream that was ended here is one that is not open, however many those are.
    if (this.#blockStreamId === 0 && streamId !== 0 && this.#options.streams.find(streamId) === undefined) {
      if (type === FRAME.pushPromise) throw pushes();
      return type === FRAME.data ? this.drop(header) : 'drop';
    }
    if (type === FRAME.data) return this.#onData(header);
    if (type === FRAME.headers || type === FRAME.continuation) return this.#onHead(header);
    if (type === FRAME.rstStream) return this.#onReset(streamId);
    if (type === FRAME.settings) return this.#onSettingsHeader(header);
    if (type === FRAME.pushPromise) throw pushes();
    return 'pass';
  }

  onFrame(_: FrameHeader, bytes: Buffer, payload: { readonly start: number; readonly end: number }): void {
    this.#hasSettings = true;
    this.#options.events.onSettings(parseSettings(bytes, payload));
  }

  #onData({ streamId, flags, length }: FrameHeader): FrameFate {
    const { streams, window } = this.#options;
    if (!window.trySpend(length)) return 'hold';
    if ((flags & FLAG.endStream) !== 0) streams.endResponse(streamId);
    return 'pass';
  }

  #onHead({ type, streamId, flags }: FrameHeader): FrameFate {
    const { streams } = this.#options;
    this.#blockStreamId = (flags & FLAG.endHeaders) === 0 ? streamId : 0;
    if (type === FRAME.continuation) return 'pass';
    const stream = streams.find(streamId);
    if (stream !== undefined) stream.isAnswered = true;
    if ((flags & FLAG.endStream) !== 0) streams.endResponse(streamId);
    return 'pass';
  }

  /** What the client has sent on it meanwhile is swallowed: it may still come. */
  #onReset(streamId: number): FrameFate {
    const { streams, resets } = this.#options;
    resets.count();
    if (streams.find(streamId)?.isRequestEnded === false) streams.refuse(streamId);
    streams.close(streamId);
    return 'pass';
  }

  #onSettingsHeader({ flags, streamId }: FrameHeader): FrameFate {
    if (streamId !== 0) throw http2Failure('protocol_error', 'the application sends SETTINGS on a stream');
    if ((flags & FLAG.ack) === 0) return 'whole';
    return this.#options.events.onAcknowledged() ? 'pass' : 'drop';
  }
}

function pushes(): Error {
  return http2Failure('protocol_error', 'the application pushes unasked');
}
