import { toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { FieldList } from '../../../shared/wire/hpack-decoder.ts';
import { http2ErrorOf, http2Failure } from '../../../shared/wire/http2-error.ts';
import {
  DEFAULT_WINDOW_BYTES,
  encodeFrame,
  encodeGoAway,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  HTTP2_ERROR,
  type Http2ErrorName,
} from '../../../shared/wire/http2-frame.ts';
import type { Settings } from '../../../shared/wire/http2-settings.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { LastBytes } from '../streams/last-bytes.ts';
import { HboneFrames, type HboneFrameEvents } from './frames.ts';
import { HBONE_LIMITS } from './limits.ts';
import { HboneLiveness } from './liveness.ts';
import { HboneSender } from './sender.ts';
import { HboneStream, type HboneCarrier } from './stream.ts';
import { Http2ResetRate } from '../http2/reset-rate.ts';
import type { TunnelSocket } from '../tunnel/tunnel.ts';

/** The side of an HBONE connection: client or server. */
export interface HboneSide {
  /** Whether a stream was ever opened by that id, by whoever opens streams on this connection. */
  isKnown(streamId: number): boolean;
  /** Of the streams that the peer opens, the last that was looked at. */
  readonly lastStreamId: number;
  /** A header block on a stream that is open (`stream`), or not. */
  onHead(
    streamId: number,
    stream: HboneStream | undefined,
    head: { readonly fields: FieldList; readonly isEnd: boolean },
  ): void;
  /** The peer has said what it takes. */
  onSettings(settings: Settings): void;
  onPong(): void;
  /** The peer wants no more streams, and has looked at none beyond that id. */
  onGoAway(lastStreamId: number): void;
  /** A stream is carried no more. */
  onStreamGone(): void;
  /** The connection broke below open streams, which were told already. */
  onBroken(why: string): void;
  /** The last call. Open streams were told already. */
  onClosed(failure: StreamFailure): void;
}

export interface HboneConnectionOptions {
  readonly socket: TunnelSocket;
  readonly clock: Clock;
  readonly isServer: boolean;
  /** What is said first: the preface of a client, SETTINGS. */
  readonly greeting: Uint8Array;
}

const SETTINGS_ACK = encodeFrame(FRAME.settings, 0, { flags: FLAG.ack });
const CLOSED: StreamFailure = { message: 'The connection was closed' };
const PING = encodeFrame(FRAME.ping, 0, { payload: new Uint8Array(8) });

/**
 * What both sides of HBONE share: frames in and out, the streams that are open, both windows of each and of the connection, and the ends. The socket is always read:
 * a stream that is not read runs out of window, and holds no other back.
 */
export class HboneConnection implements HboneCarrier, HboneFrameEvents {
  readonly #socket: TunnelSocket;
  readonly #side: HboneSide;
  readonly #frames: HboneFrames;
  readonly #sender: HboneSender;
  readonly #lastBytes: LastBytes;
  readonly #resets: Http2ResetRate;
  readonly #liveness: HboneLiveness;
  readonly #streams = new Map<number, HboneStream>();
  /** Those of which something came with more. */
  readonly #receiving = new Set<HboneStream>();
  /** `leaving`: it carried nothing, and its last bytes are on their way. `breaking`: it was reset. */
  #state: 'open' | 'leaving' | 'breaking' | 'closed' = 'open';
  #receiveWindow: number = HBONE_LIMITS.connectionWindowBytes;
  #pieces = 0;
  #owed = 0;

  constructor(side: HboneSide, { socket, clock, isServer, greeting }: HboneConnectionOptions) {
    this.#socket = socket;
    this.#side = side;
    this.#frames = new HboneFrames(this, { isServer, clock });
    this.#sender = new HboneSender(socket);
    this.#lastBytes = new LastBytes({
      clock,
      fd: socket.fd,
      waitingBytes: () => this.#sender.waitingBytes,
      onStalled: () => this.#finish(CLOSED),
    });
    this.#resets = new Http2ResetRate(clock);
    this.#liveness = new HboneLiveness(clock, {
      ping: () => this.send(PING),
      lost: () => this.closed('it gave no sign of life'),
    });
    this.send(greeting);
    this.send(encodeWindowUpdate(0, HBONE_LIMITS.connectionWindowBytes - DEFAULT_WINDOW_BYTES));
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  get isLeaving(): boolean {
    return this.#state === 'leaving';
  }

  /** How many pieces of bytes have come. */
  get pieces(): number {
    return this.#pieces;
  }

  get streams(): number {
    return this.#streams.size;
  }

  /** There is a stream from now on. */
  openStream(id: number): HboneStream {
    const stream = new HboneStream(this, id, this.#sender.streamWindow);
    this.#streams.set(id, stream);
    return stream;
  }

  /** Fails the streams whose ids are greater, which the peer has not looked at. */
  refuseBeyond(lastStreamId: number): void {
    const failure = { message: 'The other host goes away' };
    for (const [id, stream] of Array.from(this.#streams))
      if (id > lastStreamId) this.#fail(stream, failure, true);
  }

  /** Sends a frame that is not DATA. A peer that lets them pile up is not read any more. */
  send(frame: Uint8Array): void {
    if (this.#state !== 'open') return;
    this.#sender.send(frame);
    if (this.#sender.backlogBytes > HBONE_LIMITS.backlogBytes)
      this.reset({ message: 'The other host asks and does not read' }, 'enhance_your_calm');
  }

  /** Ends a stream that is none, or that broke the protocol; those in it are told. */
  refuse(streamId: number, error: Http2ErrorName): void {
    this.#resets.count();
    this.send(encodeRstStream(streamId, error));
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.#fail(stream, { message: `The stream was ended: ${error}` });
  }

  /** Voids what is open, tells the peer by GOAWAY, and closes. */
  reset(failure: StreamFailure, error: Http2ErrorName = 'no_error'): void {
    if (this.#state === 'leaving') return this.#finish(failure);
    if (this.#state !== 'open') return;
    this.#end('breaking', error);
    this.#lastBytes.hasten();
    this.#stop(failure);
  }

  /** Closes after what was written, when the peer closes in turn; there are no streams. */
  close(): void {
    if (this.#state !== 'open') return;
    this.#end('leaving', 'no_error');
    this.#lastBytes.wait();
  }

  /** Waits no longer for a peer that it is leaving than for one with which it broke. */
  hasten(): void {
    if (this.#state === 'leaving') this.#lastBytes.hasten();
  }

  received(bytes: Uint8Array): void {
    if (this.#state !== 'open') return;
    this.#pieces += 1;
    this.#liveness.heard();
    this.#sender.hold();
    try {
      this.#frames.take(bytes);
      this.#handOver();
      if (this.isOpen) this.#sender.pumpIfWider();
    } catch (error) {
      this.#violated(error);
    } finally {
      this.#sender.release();
    }
  }

  drained(): void {
    // Who takes something slowly lives, though an answer of his may be far behind.
    this.#liveness.heard();
    if (this.#state === 'closed' || !this.#sender.flush()) return;
    if (this.#state === 'open') this.#sender.pump();
    else this.#socket.shutdown();
  }

  closed(why: string): void {
    if (this.#state === 'closed') return;
    const isBroken = this.#state === 'open' && this.#streams.size > 0;
    this.#finish(
      this.#state === 'leaving' ? CLOSED : { message: `The connection to the other host broke: ${why}` },
    );
    if (isBroken) this.#side.onBroken(why);
  }

  onData(
    streamId: number,
    bytes: Uint8Array,
    {
      length,
      isEnd,
      isFollowed,
    }: { readonly length: number; readonly isEnd: boolean; readonly isFollowed: boolean },
  ): void {
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0)
      throw http2Failure('flow_control_error', 'more came than the window of the connection');
    const stream = this.#streams.get(streamId);
    if (stream === undefined || stream.isPeerEnded) return this.#dataOfNone(streamId, stream, length);
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) {
      this.#credit(length);
      return this.refuse(streamId, 'flow_control_error');
    }
    if (bytes.length > 0) stream.receive(bytes, isFollowed);
    if (isFollowed) this.#receiving.add(stream);
    if (length > bytes.length) this.taken(stream, length - bytes.length);
    if (isEnd) stream.receiveEnd();
  }

  onHead(streamId: number, fields: FieldList, isEnd: boolean): void {
    this.#side.onHead(streamId, this.#streams.get(streamId), { fields, isEnd });
  }

  /** A peer that has said everything may say in good order that it wants to hear no more (RFC 9113 8.1). */
  onReset(streamId: number, error: number): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#requireKnown(streamId);
    this.#resets.count();
    if (error === HTTP2_ERROR.no_error && stream.isPeerEnded) {
      stream.finish();
      this.#forget(stream);
      return;
    }
    const failure = { message: `The other host ended it with the error ${error} of HTTP/2` };
    this.#fail(stream, failure, error === HTTP2_ERROR.refused_stream);
  }

  onSettings(settings: Settings): void {
    this.#sender.adopt(settings, this.#streams.values());
    this.send(SETTINGS_ACK);
    this.#side.onSettings(settings);
  }

  onPing(payload: Uint8Array): void {
    this.send(encodeFrame(FRAME.ping, 0, { flags: FLAG.ack, payload }));
  }

  onPong(): void {
    this.#side.onPong();
  }

  onGoAway(lastStreamId: number): void {
    this.#side.onGoAway(lastStreamId);
  }

  onWindowUpdate(streamId: number, increment: number): void {
    // Whoever gives a window in crumbs has what waits sent in crumbs.
    if (increment < HBONE_LIMITS.crumbBytes && this.#sender.hasWaiting) this.#frames.countIdle();
    if (streamId === 0) return this.#sender.widen(increment);
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#requireKnown(streamId);
    if (increment === 0) return this.refuse(streamId, 'protocol_error');
    if (!this.#sender.widenStream(stream, increment)) this.refuse(streamId, 'flow_control_error');
  }

  sendData(stream: HboneStream, bytes: Uint8Array, start: number, length: number): number {
    return this.#state === 'open' ? this.#sender.sendData(stream, bytes, start, length) : length;
  }

  sendEnd(stream: HboneStream): boolean {
    return this.#state !== 'open' || this.#sender.sendEnd(stream);
  }

  taken(stream: HboneStream, bytes: number): void {
    this.#credit(bytes);
    if (stream.isOver || stream.isPeerEnded) return;
    const owed = HBONE_LIMITS.streamWindowBytes - stream.receiveWindow - stream.unread;
    if (owed < HBONE_LIMITS.streamWindowBytes / 2) return;
    stream.receiveWindow += owed;
    this.send(encodeWindowUpdate(stream.id, owed));
  }

  finished(stream: HboneStream): void {
    this.#lastBytes.ended();
    this.#forget(stream);
  }

  /** Its failure is ours to tell: it is the peer that hears of it. */
  abandoned(stream: HboneStream, error: Http2ErrorName): void {
    if (!this.#streams.has(stream.id)) return;
    this.send(encodeRstStream(stream.id, error));
    this.#forget(stream);
  }

  #handOver(): void {
    for (const stream of this.#receiving) stream.handOver();
    this.#receiving.clear();
  }

  /** What comes on a stream that is over is given back unread; on one that never was it is an error. */
  #dataOfNone(streamId: number, stream: HboneStream | undefined, length: number): void {
    if (stream === undefined) this.#requireKnown(streamId);
    this.#credit(length);
    if (stream !== undefined) this.refuse(streamId, 'stream_closed');
  }

  #requireKnown(streamId: number): void {
    if (!this.#side.isKnown(streamId))
      throw http2Failure('protocol_error', 'a frame is on a stream that never was');
  }

  #credit(bytes: number): void {
    this.#owed += bytes;
    if (this.#owed < HBONE_LIMITS.connectionWindowBytes / 2) return;
    this.#receiveWindow += this.#owed;
    this.send(encodeWindowUpdate(0, this.#owed));
    this.#owed = 0;
  }

  #fail(stream: HboneStream, failure: StreamFailure, isRefused = false): void {
    this.#streams.delete(stream.id);
    this.#sender.forget(stream);
    stream.fail(failure, isRefused);
    this.#side.onStreamGone();
  }

  #forget(stream: HboneStream): void {
    if (!this.#streams.delete(stream.id)) return;
    this.#sender.forget(stream);
    this.#side.onStreamGone();
  }

  #violated(error: unknown): void {
    const violation = toPicketError(error);
    this.reset({ reason: 'protocol_error', message: violation.message }, http2ErrorOf(violation));
  }

  /** Says so, reads nothing more, and ends our direction after what waits. */
  #end(state: 'leaving' | 'breaking', error: Http2ErrorName): void {
    this.#sender.send(encodeGoAway(this.#side.lastStreamId, error));
    this.#sender.release();
    this.#frames.stop();
    this.#liveness.stop();
    this.#state = state;
    if (this.#sender.flush()) this.#socket.shutdown();
  }

  /** Closes at once. */
  #finish(failure: StreamFailure): void {
    const isUntold = this.#state !== 'breaking';
    this.#state = 'closed';
    this.#lastBytes.stop();
    this.#frames.stop();
    this.#sender.clear();
    this.#socket.terminate();
    if (isUntold) this.#stop(failure);
  }

  #stop(failure: StreamFailure): void {
    this.#liveness.stop();
    const streams = Array.from(this.#streams.values());
    this.#streams.clear();
    for (const stream of streams) stream.fail(failure);
    this.#side.onClosed(failure);
  }
}
