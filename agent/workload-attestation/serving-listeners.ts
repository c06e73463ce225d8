import { isIPv4 } from 'node:net';
import type { SocketAddress } from '../native/socket-address.ts';
import type { TcpSocket } from '../native/sock-diag-message.ts';

/**
 * Those of the listeners of one port to which the kernel may give a connection to `address`: one at that very address goes before one at any
 * address, unless it is bound to an interface and may therefore not be asked.
 */
export function servingListeners(
  { address, port }: SocketAddress,
  listeners: readonly TcpSocket[],
): readonly TcpSocket[] {
  const here = listeners.filter(({ local }) => local.port === port && local.address === address);
  if (here.some(({ interfaceIndex }) => interfaceIndex === 0)) return here;
  const everywhere = listeners.filter(
    (listener) => listener.local.port === port && isAtAnyAddress(listener, isIPv4(address)),
  );
  return [...here, ...everywhere.filter((listener) => !here.includes(listener))];
}

function isAtAnyAddress({ local, isIpv6Only }: TcpSocket, isIpv4: boolean): boolean {
  if (local.address === '::') return !(isIpv4 && isIpv6Only);
  return isIpv4 && local.address === '0.0.0.0';
}
