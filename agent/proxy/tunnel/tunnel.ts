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
import { LastBytes } from '../streams/last-bytes.ts';
import { SocketWriter, type WritableSocket } from '../streams/socket-writer.ts';
import { failureFrame, readFailure } from './failure.ts';
import { TunnelStream, type StreamCarrier } from './stream.ts';

/** The TLS socket below a tunnel. */
export interface TunnelSocket extends WritableSocket {
  /** -1 once it is closed. */
  readonly fd: number;
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

/** Up to here frames leave in one write with their header: a copy is cheaper than a TLS record of four bytes. */
const SCRATCH_BYTES = 64 * 1024;

/** Up to here JavaScriptCore keeps the bytes of an array in its own heap. */
const IN_HEAP_BYTES = 1000;

const scratch = new Uint8Array(SCRATCH_BYTES);
const PONG = encodeFrame({ type: 'pong' });
const END = encodeFrame({ type: 'end' });
const CLOSED: StreamFailure = { message: 'The connection was closed' };

/**
 * What both sides of the framed connection share: frames in and out, the one stream that may be open, and the ends. Every violation
 * of the protocol ends the connection with a reset. Who speaks, and whether a stream may be opened, is the side's matter.
 */
export class Tunnel implements StreamCarrier, FrameSink {
  readonly #socket: TunnelSocket;
  readonly #side: TunnelSide;
  readonly #writer: SocketWriter;
  readonly #lastBytes: LastBytes;
  readonly #decoder = new FrameDecoder();
  #stream: TunnelStream | undefined;
  #isReading = true;
  #pieces = 0;
  /** With which piece of bytes the last ping was answered. */
  #pongedAt = 0;
  /** `leaving`: it was idle, and its last bytes are on their way. `breaking`: it was reset. */
  #state: 'open' | 'leaving' | 'breaking' | 'closed' = 'open';

  constructor(socket: TunnelSocket, side: TunnelSide, clock: Clock) {
    this.#socket = socket;
    this.#side = side;
    this.#writer = new SocketWriter(socket);
    this.#lastBytes = new LastBytes({
      clock,
      fd: socket.fd,
      waitingBytes: () => this.#writer.waitingBytes,
      onStalled: () => this.#finish(CLOSED),
    });
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
    if (this.#state === 'leaving') return this.#finish(failure);
    if (this.#state !== 'open') return;
    this.send(failureFrame('reset', failure));
    this.#end('breaking');
    this.#lastBytes.hasten();
    this.#stop(failure);
  }

  /** The peer broke the protocol. */
  violate(why: string): void {
    this.reset({ reason: 'protocol_error', message: `The other host broke the tunnel's protocol: ${why}` });
  }

  /** Closes an idle connection after what was written: the last answer may still be on its way to a slow program, so that it is over when the peer closes in turn. */
  close(): void {
    if (this.#state !== 'open') return;
    this.#end('leaving');
    this.#lastBytes.wait();
  }

  /** Waits no longer for a peer that it is leaving than for one with which it broke. */
  hasten(): void {
    if (this.#state === 'leaving') this.#lastBytes.hasten();
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
    if (this.#state === 'open') this.#stream?.drained();
    else this.#socket.shutdown();
  }

  /** The TLS socket has ended, in whatever way. Harmless when called again. */
  closed(why: string): void {
    if (this.#state === 'closed') return;
    const isBroken = this.#state === 'open' && this.#stream !== undefined;
    this.#finish(
      this.#state === 'leaving' ? CLOSED : { message: `The connection to the other host broke: ${why}` },
    );
    if (isBroken) this.#side.onBroken(why);
  }

  onData(bytes: Uint8Array, start: number, end: number): void {
    if (this.#stream === undefined) this.violate('data came while nothing was open');
    else if (!this.#stream.receive(partOf(bytes, start, end), end < bytes.length))
      this.violate('data came after the end');
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

  sendEnd(): boolean {
    this.#write(END);
    return this.#writer.isEmpty;
  }

  steer(isReading: boolean): void {
    if (this.#state !== 'open' || isReading === this.#isReading) return;
    this.#isReading = isReading;
    if (isReading) this.#socket.resume();
    else this.#socket.pause();
  }

  finished(): void {
    this.#stream = undefined;
    this.#lastBytes.ended();
    this.steer(true);
    this.#side.onIdle();
  }

  #pong(): void {
    // An honest peer has its answer before it asks again; each costs us more than the peer.
    if (this.#pongedAt === this.#pieces) this.violate('it sends pings without end');
    else if (this.#writer.isFull) this.violate('it sends pings and reads nothing');
    else {
      this.#pongedAt = this.#pieces;
      this.#write(PONG);
    }
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

  /** Reads nothing more, and ends our direction after what waits. */
  #end(state: 'leaving' | 'breaking'): void {
    this.#decoder.stop();
    this.steer(true);
    this.#state = state;
    if (this.#writer.flush()) this.#socket.shutdown();
  }

  /** Closes at once. */
  #finish(failure: StreamFailure): void {
    const isUntold = this.#state !== 'breaking';
    this.#state = 'closed';
    this.#lastBytes.stop();
    this.#decoder.stop();
    this.#writer.clear();
    this.#socket.terminate();
    if (isUntold) this.#stop(failure);
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
