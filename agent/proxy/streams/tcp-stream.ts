import { PicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { dialForTraffic, socketError, type DialTarget } from '../../native/dial.ts';
import { dialAsClient, type TransparentTarget } from '../../native/transparent-dial.ts';
import { resetOnClose } from '../../native/reset.ts';
import type { SocketSource } from '../../handover/listening-sockets.ts';
import type { ListenerOptions } from '../../native/listening-socket.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from './byte-stream.ts';
import { giveAheadPlace, takeAheadPlace } from './ahead-places.ts';
import {
  addressesOf,
  adoptNative,
  codeOf,
  formatSocketAddress,
  listenNative,
  type NativeListener,
  type NativeSocket,
} from './bun-socket.ts';
import { SocketWriter } from './socket-writer.ts';
import { StreamInbox } from './stream-inbox.ts';

/** What the listener knows of an accepted socket. `fd` belongs to the stream and is good until its close. */
export interface AcceptedSocket extends InNamespace {
  readonly fd: number;
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
}

/** A TCP connection as a stream. `abort` sends RST, as a program does that fails. */
export class TcpStream implements ByteStream {
  readonly #socket: NativeSocket<TcpStream>;
  readonly #writer: SocketWriter;
  readonly #inbox: StreamInbox;
  #hasAheadPlace = takeAheadPlace();
  #onConnected: ((error: string | undefined) => void) | undefined;
  #isEnding = false;
  #isEndSent = false;
  #isPeerEnded = false;
  #isDrainOwed = false;
  #isReading = true;
  #isOver = false;
  #onBroken = (): void => undefined;

  /** Takes over a socket with half-open allowed and handlers from `tcpHandlers`. `onConnected` is called once, for one that still connects, with an errno's symbol if it failed. */
  constructor(socket: NativeSocket<TcpStream>, onConnected?: (error: string | undefined) => void) {
    this.#socket = socket;
    this.#onConnected = onConnected;
    this.#writer = new SocketWriter(socket);
    this.#inbox = new StreamInbox({ readsAhead: this.#hasAheadPlace });
    this.#steer();
  }

  /** Calls `listener` once if the connection ends in another way than by both its ends. */
  whenBroken(listener: () => void): void {
    this.#onBroken = listener;
  }

  attach(reader: ByteStreamReader): void {
    this.#leaveAheadPlace();
    this.#inbox.attach(reader);
    this.#steer();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isEnding || this.#isOver || bytes.length === 0) return !this.#writer.isFull;
    this.#writer.write(bytes, 0, bytes.length);
    this.#isDrainOwed ||= this.#writer.isFull;
    return !this.#writer.isFull;
  }

  end(): void {
    if (this.#isEnding || this.#isOver) return;
    this.#isEnding = true;
    this.#sendEnd();
  }

  abort(): void {
    this.#leaveAheadPlace();
    this.#inbox.discard();
    this.#writer.clear();
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#socket.fd >= 0) resetOnClose(this.#socket.fd);
    this.#socket.terminate();
    this.#onBroken();
  }

  pause(): void {
    this.#inbox.pause();
    this.#steer();
  }

  resume(): void {
    this.#inbox.resume();
    this.#steer();
  }

  /** What carries its bytes is gone, and the socket does not show it. */
  lose(failure: StreamFailure): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#leaveAheadPlace();
    this.#writer.clear();
    this.#socket.terminate();
    this.#inbox.close(failure);
  }

  static readonly handlers = {
    data: (socket: Bun.Socket<TcpStream>, bytes: Buffer) => socket.data.#received(bytes),
    end: (socket: Bun.Socket<TcpStream>) => socket.data.#peerEnded(),
    drain: (socket: Bun.Socket<TcpStream>) => socket.data.#drained(),
    close: (socket: Bun.Socket<TcpStream>, error?: Error) => socket.data.#closed(error),
    // Bun calls `close` as well, with the same error.
    error: () => undefined,
  };

  #steer(): void {
    const { wantsBytes } = this.#inbox;
    if (this.#isOver || wantsBytes === this.#isReading) return;
    this.#isReading = wantsBytes;
    if (wantsBytes) this.#socket.resume();
    else this.#socket.pause();
  }

  #leaveAheadPlace(): void {
    if (this.#hasAheadPlace) giveAheadPlace();
    this.#hasAheadPlace = false;
  }

  #received(bytes: Uint8Array): void {
    if (this.#inbox.data(bytes)) this.#steer();
  }

  #peerEnded(): void {
    this.#isPeerEnded = true;
    this.#inbox.end();
  }

  #drained(): void {
    if (this.#onConnected !== undefined) this.#connected(socketError(this.#socket.fd));
    if (this.#isOver || !this.#writer.flush()) return;
    this.#sendEnd();
    if (!this.#isDrainOwed) return;
    this.#isDrainOwed = false;
    this.#inbox.drained();
  }

  #connected(error: string | undefined): void {
    const tell = this.#onConnected;
    this.#onConnected = undefined;
    tell?.(error);
  }

  #sendEnd(): void {
    if (!this.#isEnding || this.#isEndSent || !this.#writer.isEmpty) return;
    this.#isEndSent = true;
    this.#socket.shutdown();
  }

  #closed(error: Error | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#leaveAheadPlace();
    const why = error === undefined ? undefined : codeOf(error);
    this.#connected(why ?? 'ECONNABORTED');
    // After our own end Bun tells the peer's by the close alone.
    const isClean = why === undefined && this.#isEndSent;
    if (isClean && !this.#isPeerEnded) this.#inbox.end();
    if (why !== undefined) this.#onBroken();
    this.#inbox.close(isClean ? undefined : { message: `The connection broke: ${why ?? 'it was closed'}` });
  }
}

/**
 * Connects to an application or another host through the one dialler. Rejects with `unavailable`, reason `dial_failed`, when it is refused or not
 * answered within `timeoutMs`; the message ends with the errno's symbol.
 */
export async function dialTcp(
  target: (DialTarget | TransparentTarget) & { readonly timeoutMs: number; readonly clock: Clock },
): Promise<TcpStream> {
  const fd = 'zone' in target ? dialAsClient(target) : dialForTraffic(target);
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const cancel = target.clock.schedule(target.timeoutMs, () => resolve('ETIMEDOUT'));
  const stream = await adoptStream(fd, resolve);
  const error = await promise;
  cancel();
  if (error === undefined) return stream;
  stream.abort();
  const where = formatSocketAddress(target);
  throw new PicketError('unavailable', 'dial_failed', `Cannot connect to ${where}: ${error}`);
}

/** A listener for connections in plain TCP. */
export type TcpListener = NativeListener;

/** Listens on one address; port 0 takes a free one. Throws `unavailable`, reason `listen_failed`. */
export function listenTcp(
  options: SocketAddress &
    Omit<ListenerOptions, 'sharesPort'> & {
      /** Where its socket comes from. */
      readonly sockets?: SocketSource;
      readonly onStream: (stream: TcpStream, socket: AcceptedSocket) => void;
    },
): TcpListener {
  const { namespace } = options;
  const open = (socket: Bun.Socket<TcpStream>): void => {
    const native = socket as NativeSocket<TcpStream>;
    native.data = new TcpStream(native);
    options.onStream(native.data, { fd: native.fd, ...addressesOf(native), namespace });
  };
  return listenNative<TcpStream>(options, { ...TcpStream.handlers, open });
}

/** Hands a descriptor to the event loop, as `adoptNative`; one that still connects with `onConnected`, as of `TcpStream`. */
export async function adoptStream(
  fd: number,
  onConnected?: (error: string | undefined) => void,
): Promise<TcpStream> {
  const open = (socket: Bun.Socket<TcpStream>): void => {
    socket.data = new TcpStream(socket as NativeSocket<TcpStream>, onConnected);
  };
  const socket = await adoptNative<TcpStream>(fd, { ...TcpStream.handlers, open });
  return socket.data;
}
