import { PicketError } from '../../shared/errors/errors.ts';
import { decodeIpAddress, encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { descriptorReserve } from '../native/descriptor-reserve.ts';
import { resetOnClose } from '../native/reset.ts';
import type { SocketAddress } from '../native/socket-address.ts';

/** A Bun socket with the descriptor that Bun's types leave out; -1 once it is closed. */
export type NativeSocket<Data> = Bun.Socket<Data> & { readonly fd: number };

/**
 * `Bun.listen` on one address with half-open connections. What would take a file descriptor of the reserve is reset before anybody hears of it. Throws
 * `unavailable`, reason `listen_failed`.
 */
export function listenNative<Data>(
  at: SocketAddress,
  socket: Bun.SocketHandler<Data>,
): Bun.TCPSocketListener<Data> {
  try {
    return Bun.listen<Data>({
      hostname: at.address,
      port: at.port,
      allowHalfOpen: true,
      socket: withinDescriptors(socket),
    });
  } catch (cause) {
    throw new PicketError('unavailable', 'listen_failed', `Cannot listen on ${formatSocketAddress(at)}`, {
      cause,
    });
  }
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
