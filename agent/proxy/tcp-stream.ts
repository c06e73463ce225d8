import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { dialForTraffic, socketError } from '../native/dial.ts';
import { resetOnClose } from '../native/reset.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { ByteStream, ByteStreamReader } from './byte-stream.ts';
import { addressesOf, codeOf, formatSocketAddress, listenNative, type NativeSocket } from './bun-socket.ts';
import { SocketWriter } from './socket-writer.ts';
import { StreamInbox } from './stream-inbox.ts';

/** What the listener knows of an accepted socket. `fd` belongs to the stream and is good until its close. */
export interface AcceptedSocket {
  readonly fd: number;
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
}

/** A TCP connection as a stream. `abort` sends RST, as a program does that fails. */
export class TcpStream implements ByteStream {
  readonly #socket: NativeSocket<TcpStream>;
  readonly #writer: SocketWriter;
  readonly #inbox = new StreamInbox();
  #onConnected: ((error: string | undefined) => void) | undefined;
  #isEnding = false;
  #isEndSent = false;
  #isPeerEnded = false;
  #isDrainOwed = false;
  #isOver = false;
  #onBroken = (): void => undefined;

  /** Takes over a socket, paused, with half-open allowed and handlers from `tcpHandlers`. `onConnected` is called once, for one that still connects, with an errno's symbol if it failed. */
  constructor(socket: NativeSocket<TcpStream>, onConnected?: (error: string | undefined) => void) {
    this.#socket = socket;
    this.#onConnected = onConnected;
    this.#writer = new SocketWriter(socket);
  }

  /** Calls `listener` once if the connection ends in another way than by both its ends. */
  whenBroken(listener: () => void): void {
    this.#onBroken = listener;
  }

  attach(reader: ByteStreamReader): void {
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

  static readonly handlers = {
    data: (socket: Bun.Socket<TcpStream>, bytes: Buffer) => socket.data.#inbox.data(bytes),
    end: (socket: Bun.Socket<TcpStream>) => socket.data.#peerEnded(),
    drain: (socket: Bun.Socket<TcpStream>) => socket.data.#drained(),
    close: (socket: Bun.Socket<TcpStream>, error?: Error) => socket.data.#closed(error),
    // Bun calls `close` as well, with the same error.
    error: () => undefined,
  };

  #steer(): void {
    if (this.#isOver) return;
    if (this.#inbox.isOpen) this.#socket.resume();
    else this.#socket.pause();
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
export async function dialTcp(target: {
  readonly address: string;
  readonly port: number;
  /** As `dialForTraffic` takes it. */
  readonly mark: number;
  readonly timeoutMs: number;
  readonly clock: Clock;
}): Promise<TcpStream> {
  const fd = dialForTraffic(target);
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const cancel = target.clock.schedule(target.timeoutMs, () => resolve('ETIMEDOUT'));
  const stream = await adopt(fd, resolve);
  const error = await promise;
  cancel();
  if (error === undefined) return stream;
  stream.abort();
  const where = formatSocketAddress(target);
  throw new PicketError('unavailable', 'dial_failed', `Cannot connect to ${where}: ${error}`);
}

/**
 * A client that vanished is noticed after this silence and ten probes, a second apart. The probes also keep a redirected connection in the kernel's
 * memory, without which it breaks: one whose program has ended its side is forgotten after a minute of silence.
 */
const KEEPALIVE_MS = 30_000;

/** A listener for connections in plain TCP. */
export interface TcpListener {
  readonly port: number;
  /** Takes no more connections; those that it took go on. Harmless when called again. */
  stop(): void;
}

/** Listens on one address; port 0 takes a free one. Throws `unavailable`, reason `listen_failed`. */
export function listenTcp(options: {
  readonly address: string;
  readonly port: number;
  readonly onStream: (stream: TcpStream, socket: AcceptedSocket) => void;
}): TcpListener {
  const open = (socket: Bun.Socket<TcpStream>): void => {
    const native = socket as NativeSocket<TcpStream>;
    native.pause();
    native.setKeepAlive(true, KEEPALIVE_MS);
    native.data = new TcpStream(native);
    options.onStream(native.data, { fd: native.fd, ...addressesOf(native) });
  };
  const listener = listenNative<TcpStream>(options, { ...TcpStream.handlers, open });
  return { port: listener.port, stop: () => listener.stop(false) };
}

/** Hands a descriptor that is still connecting to the event loop. */
async function adopt(fd: number, onConnected: (error: string | undefined) => void): Promise<TcpStream> {
  const open = (socket: Bun.Socket<TcpStream>): void => {
    socket.pause();
    socket.data = new TcpStream(socket as NativeSocket<TcpStream>, onConnected);
  };
  const options = { fd, allowHalfOpen: true, socket: { ...TcpStream.handlers, open } };
  const socket = await Bun.connect(options as unknown as Bun.TCPSocketConnectOptions<TcpStream>);
  return socket.data;
}
