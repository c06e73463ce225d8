import { http2Failure } from '../../../shared/wire/http2-error.ts';
import {
  DEFAULT_WINDOW_BYTES,
  encodeFrame,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  MAX_31_BITS,
  MIN_MAX_FRAME_BYTES,
  writeFrameHeader,
} from '../../../shared/wire/http2-frame.ts';
import { SETTING, type Settings } from '../../../shared/wire/http2-settings.ts';
import { HBONE_LIMITS } from './limits.ts';
import type { HboneStream } from './stream.ts';
import { SocketWriter, type WritableSocket } from '../streams/socket-writer.ts';

/**
 * For the header of a frame and its bytes, which leave in one write. It is nobody else's: what is written may itself be a view of a buffer that relays share.
 */
const scratch = new Uint8Array(FRAME_HEADER_BYTES + HBONE_LIMITS.sendFrameBytes);

/** Frames that are kept back leave once there are so many bytes; DATA that is as long leaves without a copy. */
const HELD_BYTES = 16 * 1024;

/**
 * What goes to a peer: frames in their order, DATA as far as the windows and the socket take it. Streams that wait get their turns. While bytes wait for the socket no DATA is added to them, so that what
 * belongs to a stream stays with it: it is cut with the stream, and counts as open until it has gone.
 */
export class HboneSender {
  readonly #writer: SocketWriter;
  /** Frames of one pass over incoming bytes, to leave together. */
  #held: Uint8Array[] | undefined;
  #heldBytes = 0;
  /** Windows have grown, and streams that wait have had no turn since. */
  #isWider = false;
  /** Bytes of frames other than DATA that were sent while the socket took none. */
  #backlogBytes = 0;
  readonly #waiting = new Set<HboneStream>();
  #window = DEFAULT_WINDOW_BYTES;
  #streamWindow = DEFAULT_WINDOW_BYTES;
  #frameBytes = MIN_MAX_FRAME_BYTES;

  constructor(socket: WritableSocket) {
    this.#writer = new SocketWriter(socket);
  }

  /** The peer's window for a new stream. */
  get streamWindow(): number {
    return this.#streamWindow;
  }

  /** Bytes that the kernel has not taken. */
  get waitingBytes(): number {
    return this.#writer.waitingBytes;
  }

  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  /** Whether a stream waits for a window. */
  get hasWaiting(): boolean {
    return this.#waiting.size > 0 && this.#writer.isEmpty;
  }

  /** Keeps frames back until `release`, to leave in one write. */
  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    this.#writeHeld();
    this.#held = undefined;
  }

  /** A frame that is not DATA. */
  send(frame: Uint8Array): void {
    if (!this.#writer.isEmpty) this.#backlogBytes += frame.length;
    if (this.#held === undefined) this.#write(frame);
    else this.#hold(this.#held, frame);
  }

  /** Sends as much of the range as may go; how many bytes went. What did not waits for its turn. */
  sendData(stream: HboneStream, bytes: Uint8Array, start: number, length: number): number {
    let sent = 0;
    while (sent < length && this.#writer.isEmpty) {
      const size = Math.min(length - sent, stream.sendWindow, this.#window, this.#frameBytes);
      if (size <= 0) break;
      this.#sendFrame(stream.id, bytes.subarray(start + sent, start + sent + size));
      stream.sendWindow -= size;
      this.#window -= size;
      sent += size;
    }
    if (sent < length) this.#waiting.add(stream);
    return sent;
  }

  /** Ends the stream. False: bytes wait for the socket, its own perhaps, and it waits for its turn. */
  sendEnd(stream: HboneStream): boolean {
    this.#writeHeld();
    if (this.#writer.isEmpty) this.send(encodeFrame(FRAME.data, stream.id, { flags: FLAG.endStream }));
    else this.#waiting.add(stream);
    return !this.#waiting.has(stream);
  }

  /** The peer takes more on the connection. Throws `http2_protocol_error` or `http2_flow_control_error`. */
  widen(increment: number): void {
    if (increment === 0)
      throw http2Failure('protocol_error', 'WINDOW_UPDATE of the connection gives nothing');
    this.#window += increment;
    if (this.#window > MAX_31_BITS)
      throw http2Failure('flow_control_error', 'the window is larger than 2^31-1');
    this.#isWider = true;
  }

  /** The peer takes more on that stream. False: more than there can be. */
  widenStream(stream: HboneStream, increment: number): boolean {
    stream.sendWindow += increment;
    this.#isWider = true;
    return stream.sendWindow <= MAX_31_BITS;
  }

  /** The peer has said what it takes, of these streams too (RFC 9113 6.9.2). Throws `http2_flow_control_error`. */
  adopt(settings: Settings, streams: Iterable<HboneStream>): void {
    const before = this.#streamWindow;
    this.#streamWindow = settings.get(SETTING.initialWindowSize) ?? before;
    const frameBytes = settings.get(SETTING.maxFrameSize) ?? this.#frameBytes;
    this.#frameBytes = Math.min(frameBytes, HBONE_LIMITS.sendFrameBytes);
    this.#isWider = true;
    for (const stream of streams) {
      stream.sendWindow += this.#streamWindow - before;
      if (stream.sendWindow > MAX_31_BITS)
        throw http2Failure('flow_control_error', 'SETTINGS make a window larger than 2^31-1');
    }
  }

  /** As `pump`, if windows have grown: once for all that was read at a time, so that a window given byte by byte is not filled byte by byte (CVE-2019-9511). */
  pumpIfWider(): void {
    if (!this.#isWider) return;
    this.#isWider = false;
    this.pump();
  }

  /** Each that waits gets a turn, as far as there is room; who is not done stands behind the others then. */
  pump(): void {
    for (const stream of Array.from(this.#waiting)) {
      if (!this.#writer.isEmpty) return;
      if (Math.min(this.#window, stream.sendWindow) <= 0 && !stream.hasSentAll) continue;
      this.#waiting.delete(stream);
      stream.flush();
    }
  }

  forget(stream: HboneStream): void {
    this.#waiting.delete(stream);
  }

  /** Sends what waits for the socket. True when nothing does any more. */
  flush(): boolean {
    if (!this.#writer.flush()) return false;
    this.#backlogBytes = 0;
    return true;
  }

  /** Forgets what waits. */
  clear(): void {
    this.#held = undefined;
    this.#heldBytes = 0;
    this.#waiting.clear();
    this.#writer.clear();
  }

  #sendFrame(streamId: number, bytes: Uint8Array): void {
    const at = writeFrameHeader(scratch, 0, { length: bytes.length, type: FRAME.data, flags: 0, streamId });
    scratch.set(bytes, at);
    const end = at + bytes.length;
    if (this.#held !== undefined && end < HELD_BYTES) return this.#hold(this.#held, scratch.slice(0, end));
    // What was held came before.
    this.#writeHeld();
    this.#writer.write(scratch, 0, end);
  }

  #hold(held: Uint8Array[], frame: Uint8Array): void {
    held.push(frame);
    this.#heldBytes += frame.length;
    if (this.#heldBytes >= HELD_BYTES) this.#writeHeld();
  }

  #writeHeld(): void {
    const frames = this.#held?.splice(0) ?? [];
    this.#heldBytes = 0;
    if (frames.length > 0)
      this.#write(frames.length === 1 && frames[0] !== undefined ? frames[0] : Buffer.concat(frames));
  }

  #write(bytes: Uint8Array): void {
    this.#writer.write(bytes, 0, bytes.length);
  }
}
