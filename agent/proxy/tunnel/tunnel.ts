import { describeError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import {
  encodeFrame,
  FRAME_HEADER_BYTES,
  FrameDecoder,
  MAX_DATA_BYTES,
  writeDataHeader,
  type FrameSink,
  type TunnelFrame,
} from '../../../shared/wire/tunnel-frame.ts';
import { asBuffer } from '../streams/as-buffer.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { SocketWriter, type WritableSocket } from '../streams/socket-writer.ts';
import { failureFrame, readFailure } from './failure.ts';
import { TunnelStream, type StreamCarrier } from './stream.ts';

/** The TLS socket below a tunnel. */
export interface TunnelSocket extends WritableSocket {
  pause(): void;
  resume(): void;
  /** Ends our direction. */
  shutdown(): void;
  /** Closes at once. */
  terminate(): void;
}

/** The side of a tunnel: client or server. */
export interface TunnelSide {
  /** `open`, `accept`, `deny` or `retire`: whether it may come now is for the side to judge. */
  onFrame(frame: TunnelFrame): void;
  /** The stream ended cleanly, and the next may be opened. */
  onIdle(): void;
  /** The connection broke below the open stream, which was told already. */
  onBroken(why: string): void;
  /** The last call. An open stream was told already. */
  onClosed(failure: StreamFailure): void;
}

/** How long a connection that we end may take to send its last frame and to be closed by the peer, in milliseconds. */
const LINGER_MS = 1000;
/** Up to here frames leave in one write with their header: a copy is cheaper than a TLS record of four bytes. */
const SCRATCH_BYTES = 64 * 1024;

/** Up to here JavaScriptCore keeps the bytes of an array in its own heap. */
const IN_HEAP_BYTES = 1000;

const scratch = new Uint8Array(SCRATCH_BYTES);
const PONG = encodeFrame({ type: 'pong' });
const END = encodeFrame({ type: 'end' });

/**
 * What both sides of the framed connection share: frames in and out, the one stream that may be open, and the ends. Every violation
 * of the protocol ends the connection with a reset. Who speaks, and whether a stream may be opened, is the side's matter.
 */
export class Tunnel implements StreamCarrier, FrameSink {
  readonly #socket: TunnelSocket;
  readonly #side: TunnelSide;
  readonly #clock: Clock;
  readonly #writer: SocketWriter;
  readonly #decoder = new FrameDecoder();
  #stream: TunnelStream | undefined;
  #isReading = true;
  #pieces = 0;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #cancelLinger = (): void => undefined;

  constructor(socket: TunnelSocket, side: TunnelSide, clock: Clock) {
    this.#socket = socket;
    this.#side = side;
    this.#clock = clock;
    this.#writer = new SocketWriter(socket);
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  /** How many pieces of bytes have come. */
  get pieces(): number {
    return this.#pieces;
  }

  /** Whether so much waits to be read by the peer that no more may be added. */
  get isFull(): boolean {
    return this.#writer.isFull;
  }

  get hasStream(): boolean {
    return this.#stream !== undefined;
  }

  /** Sends a control frame. */
  send(frame: TunnelFrame): void {
    this.#write(encodeFrame(frame));
  }

  /** The opening was accepted: there is a stream from now on. On a tunnel that has ended it has failed already. */
  openStream(): TunnelStream {
    const stream = new TunnelStream(this);
    if (this.#state === 'open') this.#stream = stream;
    else stream.fail({ message: 'The connection to the other host has ended' });
    return stream;
  }

  /** Voids what is open, tells the peer why, and closes. */
  reset(failure: StreamFailure): void {
    if (this.#state !== 'open') return;
    this.send(failureFrame('reset', failure));
    this.#end(failure);
  }

  /** The peer broke the protocol. */
  violate(why: string): void {
    this.reset({ reason: 'protocol_error', message: `The other host broke the tunnel's protocol: ${why}` });
  }

  /** Closes an idle connection after what was written. */
  close(): void {
    if (this.#state === 'open') this.#end({ message: 'The connection was closed' });
  }

  /** Bytes came from the TLS socket. */
  received(bytes: Uint8Array): void {
    if (this.#state !== 'open') return;
    this.#pieces += 1;
    try {
      this.#decoder.decode(bytes, this);
    } catch (error) {
      this.violate(describeError(error));
    }
  }

  /** The TLS socket takes bytes again. */
  drained(): void {
    if (this.#state === 'closed' || !this.#writer.flush()) return;
    if (this.#state === 'closing') this.#socket.shutdown();
    else this.#stream?.drained();
  }

  /** The TLS socket has ended, in whatever way. Harmless when called again. */
  closed(why: string): void {
    if (this.#state === 'closed') return;
    const isBroken = this.#state === 'open' && this.#stream !== undefined;
    this.#finish({ message: `The connection to the other host broke: ${why}` });
    if (isBroken) this.#side.onBroken(why);
  }

  onData(bytes: Uint8Array, start: number, end: number): void {
    if (this.#stream === undefined) this.violate('data came while nothing was open');
    else if (!this.#stream.receive(partOf(bytes, start, end))) this.violate('data came after the end');
  }

  onFrame(frame: TunnelFrame): void {
    switch (frame.type) {
      case 'end':
        if (this.#stream?.receiveEnd() !== true) this.violate('an end came while nothing was open');
        break;
      case 'reset':
        this.#finish(readFailure(frame));
        break;
      case 'ping':
        this.#pong();
        break;
      case 'open':
      case 'accept':
      case 'pong':
      case 'deny':
      case 'retire':
        this.#side.onFrame(frame);
        break;
    }
  }

  sendData(bytes: Uint8Array): boolean {
    for (let at = 0; at < bytes.length; at += MAX_DATA_BYTES)
      this.#sendFrame(bytes, at, Math.min(MAX_DATA_BYTES, bytes.length - at));
    return !this.#writer.isFull;
  }

  sendEnd(): void {
    this.#write(END);
  }

  steer(isReading: boolean): void {
    if (this.#state !== 'open' || isReading === this.#isReading) return;
    this.#isReading = isReading;
    if (isReading) this.#socket.resume();
    else this.#socket.pause();
  }

  finished(): void {
    this.#stream = undefined;
    this.steer(true);
    this.#side.onIdle();
  }

  #pong(): void {
    if (this.#writer.isFull) this.violate('it sends pings and reads nothing');
    else this.#write(PONG);
  }

  #write(bytes: Uint8Array): void {
    if (this.#state === 'open') this.#writer.write(bytes, 0, bytes.length);
  }

  /** The header and as much as fits leave together, the rest of a long frame without a copy. */
  #sendFrame(bytes: Uint8Array, at: number, length: number): void {
    const first = Math.min(length, SCRATCH_BYTES - FRAME_HEADER_BYTES);
    writeDataHeader(scratch, 0, length);
    scratch.set(first === bytes.length ? bytes : bytes.subarray(at, at + first), FRAME_HEADER_BYTES);
    this.#writer.write(scratch, 0, FRAME_HEADER_BYTES + first);
    if (first < length) this.#writer.write(bytes, at + first, at + length);
  }

  /** Reads nothing more, sends what waits, and closes within `LINGER_MS`. */
  #end(failure: StreamFailure): void {
    this.#decoder.stop();
    this.steer(true);
    this.#state = 'closing';
    this.#cancelLinger = this.#clock.schedule(LINGER_MS, () => this.#socket.terminate());
    this.#stop(failure);
    if (this.#writer.flush()) this.#socket.shutdown();
  }

  /** Is closed by the other side. */
  #finish(failure: StreamFailure): void {
    const wasOpen = this.#state === 'open';
    this.#state = 'closed';
    this.#cancelLinger();
    this.#decoder.stop();
    this.#writer.clear();
    this.#socket.terminate();
    if (wasOpen) this.#stop(failure);
  }

  #stop(failure: StreamFailure): void {
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.fail(failure);
    this.#side.onClosed(failure);
  }
}

/**
 * A range of bytes from a socket. What is small enough to lie in the engine's heap is copied: for a view the engine would first move the whole out of there, which takes three times
 * as long (180 ns against 50), for each piece of every connection.
 */
function partOf(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const length = end - start;
  if (length === bytes.length) return bytes;
  if (bytes.length > IN_HEAP_BYTES) return bytes.subarray(start, end);
  const part = Buffer.allocUnsafeSlow(length);
  asBuffer(bytes).copy(part, 0, start, end);
  return part;
}
