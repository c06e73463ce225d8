import type { Http2ErrorName } from '../../../shared/wire/http2-frame.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from '../streams/byte-stream.ts';
import { HBONE_LIMITS } from './limits.ts';
import { SocketWriter } from '../streams/socket-writer.ts';
import { StreamInbox } from '../streams/stream-inbox.ts';

/** What a stream asks of the connection that carries it. */
export interface HboneCarrier {
  /** Sends as much of the range as windows and socket take; how many bytes went. */
  sendData(stream: HboneStream, bytes: Uint8Array, start: number, length: number): number;
  /** False while bytes wait for the socket: `flush` is called when they have gone. */
  sendEnd(stream: HboneStream): boolean;
  /** Bytes that had come were taken, or will never be. */
  taken(stream: HboneStream, bytes: number): void;
  /** Both directions have ended cleanly. */
  finished(stream: HboneStream): void;
  /** It was ended by us before its time. */
  abandoned(stream: HboneStream, error: Http2ErrorName): void;
}

/** How a stream ended that was never answered. */
export interface Unanswered extends StreamFailure {
  /** The peer says that it has not looked at it (RFC 9113 8.7). */
  readonly isRefused: boolean;
}

/** One application connection as a stream of HTTP/2, from its CONNECT on. What comes before it is attached waits within its window. */
export class HboneStream implements ByteStream {
  readonly id: number;
  /** What the peer takes; below 0 after it has made its windows smaller (RFC 9113 6.9.2). */
  sendWindow: number;
  /** What the peer may send. */
  receiveWindow: number = HBONE_LIMITS.streamWindowBytes;
  /** Called once if the stream fails before it was answered. */
  onUnanswered: ((end: Unanswered) => void) | undefined;
  /** Counts what is read, also after the end. */
  readonly #owner: HboneCarrier;
  #carrier: HboneCarrier | undefined;
  /** Takes what the carrier has sent no window for. */
  readonly #writer: SocketWriter;
  readonly #inbox = new StreamInbox();
  #unread = 0;
  #isEnding = false;
  #isEndSent = false;
  #isPeerEnded = false;
  #isDrainOwed = false;

  constructor(carrier: HboneCarrier, id: number, sendWindow: number) {
    this.#owner = carrier;
    this.#carrier = carrier;
    this.id = id;
    this.sendWindow = sendWindow;
    this.#writer = new SocketWriter({
      write: (bytes, start, length) => this.#carrier?.sendData(this, bytes, start, length) ?? length,
    });
  }

  /** Bytes that have come and were not read yet. */
  get unread(): number {
    return this.#unread;
  }

  /** Whether no window is needed for what it has to send. */
  get hasSentAll(): boolean {
    return this.#writer.isEmpty;
  }

  get isPeerEnded(): boolean {
    return this.#isPeerEnded;
  }

  get isOver(): boolean {
    return this.#carrier === undefined;
  }

  attach(reader: ByteStreamReader): void {
    this.#inbox.attach({
      onData: (bytes) => {
        reader.onData(bytes);
        this.#take(bytes.length);
      },
      onEnd: () => reader.onEnd(),
      onDrain: () => reader.onDrain(),
      onClose: (failure) => {
        this.#giveUpUnread();
        reader.onClose(failure);
      },
    });
  }

  write(bytes: Uint8Array): boolean {
    if (this.#carrier === undefined || this.#isEnding || bytes.length === 0) return true;
    this.#writer.write(bytes, 0, bytes.length);
    this.#isDrainOwed ||= this.#writer.isFull;
    return !this.#writer.isFull;
  }

  end(): void {
    if (this.#carrier === undefined || this.#isEnding) return;
    this.#isEnding = true;
    this.#sendEnd();
  }

  /** HTTP/2 carries no reason. CANCEL and NO_ERROR would be a clean end to peers: what is cut short must not look like that (RFC 9113 8.5). */
  abort(): void {
    const carrier = this.#carrier;
    this.discard();
    carrier?.abandoned(this, 'connect_error');
  }

  /** Nobody wants anything more of it; what the peer is told, the caller tells. */
  discard(): void {
    this.onUnanswered = undefined;
    this.#over();
    this.#inbox.discard();
    this.#giveUpUnread();
  }

  pause(): void {
    this.#inbox.pause();
  }

  resume(): void {
    this.#inbox.resume();
  }

  /** Bytes came, and more with them where they are `isFollowed`; the carrier has seen to it that they fit the window. */
  receive(bytes: Uint8Array, isFollowed: boolean): void {
    this.#unread += bytes.length;
    this.#inbox.data(bytes, isFollowed);
  }

  /** The last of what came together was received. */
  handOver(): void {
    this.#inbox.handOver();
  }

  receiveEnd(): void {
    this.#isPeerEnded = true;
    this.#inbox.end();
    this.#finishIfEnded();
  }

  /** Sends what waits, as far as it goes. */
  flush(): void {
    if (!this.#writer.flush()) return;
    this.#sendEnd();
    if (!this.#isDrainOwed) return;
    this.#isDrainOwed = false;
    this.#inbox.drained();
  }

  /** The peer wants nothing more of it, in good order: what it had to say, it has said. */
  finish(): void {
    this.#over();
    this.#inbox.close(undefined);
  }

  /** The connection carries it no more. */
  fail(failure: StreamFailure, isRefused = false): void {
    if (this.#carrier === undefined) return;
    this.#over();
    this.#inbox.close(failure);
    // What still goes to the reader is given back once it has.
    this.#giveUpUnread(this.#inbox.heldBytes);
    const tell = this.onUnanswered;
    this.onUnanswered = undefined;
    tell?.({ ...failure, isRefused });
  }

  #over(): void {
    this.#carrier = undefined;
    this.#writer.clear();
  }

  /** All but what is still to be read will never be. */
  #giveUpUnread(toBeRead = 0): void {
    const unread = this.#unread - toBeRead;
    this.#unread = toBeRead;
    if (unread > 0) this.#owner.taken(this, unread);
  }

  /** Only what was read gives room for more: a reader that pauses holds the peer back. */
  #take(length: number): void {
    const taken = Math.min(length, this.#unread);
    this.#unread -= taken;
    if (taken > 0) this.#owner.taken(this, taken);
  }

  #sendEnd(): void {
    if (!this.#isEnding || this.#isEndSent || !this.#writer.isEmpty) return;
    if (this.#carrier?.sendEnd(this) === false) return;
    this.#isEndSent = true;
    this.#finishIfEnded();
  }

  #finishIfEnded(): void {
    const carrier = this.#carrier;
    if (carrier === undefined || !this.#isEndSent || !this.#isPeerEnded) return;
    this.#over();
    this.#inbox.close(undefined);
    carrier.finished(this);
  }
}
