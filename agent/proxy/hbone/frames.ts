import type { Clock } from '../../../shared/runtime/clock.ts';
import { FieldList, HpackDecoder } from '../../../shared/wire/hpack-decoder.ts';
import { http2Failure } from '../../../shared/wire/http2-error.ts';
import { FrameReader, type FrameFate, type FrameSink } from '../../../shared/wire/http2-frame-reader.ts';
import {
  CLIENT_PREFACE,
  FLAG,
  FRAME,
  MIN_MAX_FRAME_BYTES,
  readUint31,
  type FrameHeader,
} from '../../../shared/wire/http2-frame.ts';
import { parseSettings, type Settings } from '../../../shared/wire/http2-settings.ts';
import { HBONE_LIMITS } from './limits.ts';
import { HeaderBlockReader, type HeaderBlock } from '../http2/header-block.ts';

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Who hears of the frames of a peer, checked as far as one frame can be by itself. */
export interface HboneFrameEvents {
  /** `length`: what counts for the windows, padding included. `isFollowed`: more has come with it. */
  onData(
    streamId: number,
    bytes: Uint8Array,
    flow: { readonly length: number; readonly isEnd: boolean; readonly isFollowed: boolean },
  ): void;
  /** A whole header block; `fields` are good only during the call. */
  onHead(streamId: number, fields: FieldList, isEnd: boolean): void;
  /** RST_STREAM with an error of RFC 9113 7. */
  onReset(streamId: number, error: number): void;
  onSettings(settings: Settings): void;
  onPing(payload: Uint8Array): void;
  onPong(): void;
  onGoAway(lastStreamId: number): void;
  onWindowUpdate(streamId: number, increment: number): void;
}

/** Frames of a stream, and frames of the connection (RFC 9113 6); DATA and others on stream 0, or SETTINGS on a stream, are no frames. */
const ON_STREAM: ReadonlySet<number> = new Set([
  FRAME.data,
  FRAME.headers,
  FRAME.priority,
  FRAME.rstStream,
  FRAME.pushPromise,
  FRAME.continuation,
]);
const ON_CONNECTION: ReadonlySet<number> = new Set([FRAME.settings, FRAME.ping, FRAME.goAway]);
/** Lengths that are fixed; GOAWAY has at least its own. */
const LENGTHS: ReadonlyMap<number, number> = new Map([
  [FRAME.priority, 5],
  [FRAME.rstStream, 4],
  [FRAME.ping, 8],
  [FRAME.windowUpdate, 4],
]);
const MAX_TYPE = FRAME.continuation;
const GO_AWAY_BYTES = 8;
const SECOND_MS = 1000;

/** Reads what an HBONE peer sends, as its client or its server. `take` throws `invalid_argument`, reason `http2_...`, after which the connection cannot go on. */
export class HboneFrames implements FrameSink {
  readonly #events: HboneFrameEvents;
  readonly #clock: Clock;
  readonly #reader = new FrameReader(this, MIN_MAX_FRAME_BYTES);
  readonly #blocks = new HeaderBlockReader();
  readonly #decoder = new HpackDecoder({ listBytes: HBONE_LIMITS.headBytes, fields: HBONE_LIMITS.fields });
  readonly #fields = new FieldList();
  /** What is to come of the client's preface. */
  #preface: Uint8Array;
  #hasSettings = false;
  #idleSinceMs = -Infinity;
  #idleFrames = 0;
  readonly hasWaiting = false;

  constructor(events: HboneFrameEvents, options: { readonly isServer: boolean; readonly clock: Clock }) {
    this.#events = events;
    this.#clock = options.clock;
    this.#preface = options.isServer ? CLIENT_PREFACE : new Uint8Array(0);
  }

  take(bytes: Uint8Array): void {
    const rest = this.#takePreface(bytes);
    if (rest.length > 0) this.#reader.take(Buffer.from(rest.buffer, rest.byteOffset, rest.byteLength));
  }

  /** Reads nothing more of what it has. */
  stop(): void {
    this.#reader.hold();
  }

  /** A frame that carries nothing costs whoever reads it more than whoever sends it. Throws `http2_enhance_your_calm`. */
  countIdle(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#idleSinceMs >= SECOND_MS) {
      this.#idleSinceMs = nowMs;
      this.#idleFrames = 0;
    }
    this.#idleFrames += 1;
    if (this.#idleFrames > HBONE_LIMITS.idleFramesPerSecond)
      throw http2Failure('enhance_your_calm', 'too many frames in a second carry nothing');
  }

  onHeader({ type, length, streamId, flags }: FrameHeader): FrameFate {
    if (length > MIN_MAX_FRAME_BYTES)
      throw http2Failure('frame_size_error', `a frame has ${length} bytes, which nobody allowed`);
    if (!this.#hasSettings && (type !== FRAME.settings || (flags & FLAG.ack) !== 0))
      throw http2Failure('protocol_error', 'it does not begin with SETTINGS');
    const open = this.#blocks.streamId;
    if (open !== 0 ? type !== FRAME.continuation || streamId !== open : type === FRAME.continuation)
      throw http2Failure('protocol_error', 'a header block is interrupted, or goes on that was none');
    if (type > MAX_TYPE) {
      this.countIdle();
      return 'drop';
    }
    if ((ON_STREAM.has(type) && streamId === 0) || (ON_CONNECTION.has(type) && streamId !== 0))
      throw http2Failure('protocol_error', 'a frame is on the wrong stream');
    if ((LENGTHS.get(type) ?? length) !== length || (type === FRAME.goAway && length < GO_AWAY_BYTES))
      throw http2Failure('frame_size_error', 'a frame has a length that its kind does not have');
    return 'whole';
  }

  onFrame(header: FrameHeader, bytes: Buffer, payload: Range): void {
    const { type, streamId } = header;
    switch (type) {
      case FRAME.data:
        return this.#data(header, bytes, payload);
      case FRAME.headers:
        return this.#head(this.#blocks.begin(header, bytes, payload));
      case FRAME.continuation:
        return this.#head(this.#blocks.goOn(header, bytes, payload));
      case FRAME.rstStream:
        return this.#events.onReset(streamId, bytes.readUInt32BE(payload.start));
      case FRAME.settings:
        return this.#settings(header, bytes, payload);
      case FRAME.ping:
        return this.#ping(header, bytes, payload);
      case FRAME.goAway:
        return this.#events.onGoAway(readUint31(bytes, payload.start));
      case FRAME.windowUpdate:
        return this.#events.onWindowUpdate(streamId, readUint31(bytes, payload.start));
      case FRAME.pushPromise:
        throw http2Failure('protocol_error', 'nobody may push here');
      default:
        this.countIdle();
    }
  }

  onPass(): void {
    // Nothing passes.
  }

  onBoundary(): void {
    // Nothing waits to be put between frames.
  }

  #takePreface(bytes: Uint8Array): Uint8Array {
    const expected = this.#preface;
    const length = Math.min(expected.length, bytes.length);
    for (let i = 0; i < length; i++)
      if (bytes[i] !== expected[i])
        throw http2Failure('protocol_error', 'it does not begin with the preface');
    this.#preface = expected.subarray(length);
    return length === 0 ? bytes : bytes.subarray(length);
  }

  #data({ streamId, flags, length }: FrameHeader, bytes: Buffer, payload: Range): void {
    const isPadded = (flags & FLAG.padded) !== 0;
    const start = payload.start + (isPadded ? 1 : 0);
    const end = payload.end - (isPadded ? (bytes[payload.start] ?? 0) : 0);
    if (start > end) throw http2Failure('protocol_error', 'DATA is shorter than its padding');
    const isEnd = (flags & FLAG.endStream) !== 0;
    if (start === end && !isEnd) this.countIdle();
    const isFollowed = payload.end < bytes.length;
    this.#events.onData(streamId, bytes.subarray(start, end), { length, isEnd, isFollowed });
  }

  #head(block: HeaderBlock | undefined): void {
    if (block === undefined) return;
    this.#decoder.decode(block.bytes, block, this.#fields);
    this.#events.onHead(block.streamId, this.#fields, block.isEnd);
  }

  #settings({ flags, length }: FrameHeader, bytes: Buffer, payload: Range): void {
    this.countIdle();
    if ((flags & FLAG.ack) !== 0) {
      if (length !== 0)
        throw http2Failure('frame_size_error', 'an acknowledgement of SETTINGS says something');
      return;
    }
    this.#hasSettings = true;
    this.#events.onSettings(parseSettings(bytes, payload));
  }

  #ping({ flags }: FrameHeader, bytes: Buffer, { start, end }: Range): void {
    this.countIdle();
    if ((flags & FLAG.ack) === 0) this.#events.onPing(bytes.subarray(start, end));
    else this.#events.onPong();
  }
}
