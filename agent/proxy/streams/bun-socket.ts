import { decodeIpAddress, encodeIpAddress } from '../../../shared/runtime/ip-address.ts';
import { ListeningSockets, type SocketSource } from '../../handover/listening-sockets.ts';
import { descriptorReserve } from '../../native/descriptor-reserve.ts';
import { setKeepalive } from '../../native/keepalive.ts';
import { libc } from '../../native/libc.ts';
import { resetOnClose } from '../../native/reset.ts';
import { isListening, type ListenerOptions } from '../../native/listening-socket.ts';
import type { SocketAddress } from '../../native/socket-address.ts';

/** A Bun socket with the descriptor that Bun's types leave out; -1 once it is closed. */
export type NativeSocket<Data> = Bun.Socket<Data> & { readonly fd: number };

/** A listener for connections. */
export interface NativeListener {
  readonly port: number;
  /**
   * Whether somebody else has ended its socket (see `isListening`): it takes nothing any more, and the event loop turns in circles until it is stopped, since to epoll(7) such a socket has always something
   * to tell. Nothing says so by itself. False once it is stopped.
   */
  readonly isBroken: boolean;
  /** Takes no more connections; those that it took go on. Harmless when called again. */
  stop(): void;
}

/**
 * A peer that vanished is noticed after this silence and ten probes, a second apart. The probes also keep a redirected connection in the kernel's
 * memory, without which it breaks: one whose program has ended its side is forgotten after a minute of silence.
 */
const KEEPALIVE = { idleSeconds: 30, intervalSeconds: 1, probes: 10 };

/**
 * `Bun.listen` on one address with half-open connections, without Nagle's delay and with keepalive, on a socket of `sockets`; one of its own unless given. What would take a file descriptor of the reserve is reset
 * before anybody hears of it. Throws `unavailable`, reason `listen_failed`.
 */
export function listenNative<Data>(
  {
    address,
    port,
    sockets = new ListeningSockets(),
    ...options
  }: SocketAddress & Omit<ListenerOptions, 'sharesPort'> & { readonly sockets?: SocketSource },
  socket: Bun.SocketHandler<Data>,
): NativeListener {
  const handlers = withinDescriptors(socket);
  const listeners = sockets.tcp({ address, port }, options).map((listening) => {
    // Once here, not in four calls for each connection.
    setKeepalive(listening.fd, KEEPALIVE);
    const listen = { fd: listening.fd, allowHalfOpen: true, socket: handlers };
    const listener = Bun.listen<Data>(listen as unknown as Bun.TCPSocketListenOptions<Data>);
    const stop = (): void => {
      listener.stop(false);
      listening.closed();
    };
    return { fd: listening.fd, port: listening.port, stop };
  });
  let isStopped = false;
  return {
    port: listeners[0]?.port ?? port,
    get isBroken() {
      // The number of what is closed may be another's.
      return !isStopped && listeners.some(({ fd }) => !isListening(fd));
    },
    stop: () => {
      isStopped = true;
      for (const listener of listeners) listener.stop();
    },
  };
}

function withinDescriptors<Data>(handlers: Bun.SocketHandler<Data>): Bun.SocketHandler<Data> {
  const refused = new WeakSet<Bun.Socket<Data>>();
  return {
    ...handlers,
    open: (socket) => {
      const { fd } = socket as NativeSocket<Data>;
      if (descriptorReserve().admits(fd)) return handlers.open?.(socket);
      refused.add(socket);
      resetOnClose(fd);
      socket.terminate();
    },
    close: (socket, error) => (refused.has(socket) ? undefined : handlers.close?.(socket, error)),
  };
}

/** Hands a descriptor that is connected, or connects, to the event loop, with half-open allowed. Where it does not take it, which it says by an error of its own, the descriptor is closed. */
export async function adoptNative<Data>(
  fd: number,
  socket: Bun.SocketHandler<Data>,
): Promise<NativeSocket<Data>> {
  const options = { fd, allowHalfOpen: true, socket };
  try {
    return (await Bun.connect(options as unknown as Bun.TCPSocketConnectOptions<Data>)) as NativeSocket<Data>;
  } catch (error) {
    libc().close(fd);
    throw error;
  }
}

/** Both ends of a socket, in the spelling of `SocketAddress` on a dual-stack listener too. */
export function addressesOf(socket: Bun.Socket<unknown>): {
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
} {
  return {
    remote: { address: canonical(socket.remoteAddress), port: socket.remotePort },
    local: { address: canonical(socket.localAddress), port: socket.localPort },
  };
}

/** `address:port`, with brackets around IPv6. */
export function formatSocketAddress({ address, port }: SocketAddress): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The symbol of a socket's error, such as `ECONNRESET`. */
export function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

/** IPv4 as the kernel spells it, which is the only way. Only there for speed: every connection comes by here. */
const DOTTED = /^[0-9.]+$/;
const MAPPED = '::ffff:';

/** A link-local address keeps the zone that Bun shows. */
function canonical(address: string): string {
  const dotted = address.startsWith(MAPPED) ? address.slice(MAPPED.length) : address;
  if (DOTTED.test(dotted)) return dotted;
  return address.includes('%') ? address : decodeIpAddress(encodeIpAddress(address));
}
