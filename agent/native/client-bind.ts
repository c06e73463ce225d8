import { PicketError } from '../../shared/errors/errors.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { AF_INET, encodeSockaddr, SOCKADDR_IN6_BYTES } from './sockaddr.ts';
import { setIntegerOption, SOL_IP, SOL_IPV6 } from './socket-option.ts';

const IP_TRANSPARENT = { level: SOL_IP, name: 19, what: 'IP_TRANSPARENT' };
const IPV6_TRANSPARENT = { level: SOL_IPV6, name: 75, what: 'IPV6_TRANSPARENT' };
const IP_BIND_ADDRESS_NO_PORT = { level: SOL_IP, name: 24, what: 'IP_BIND_ADDRESS_NO_PORT' };

const sockaddr = allocateNative(SOCKADDR_IN6_BYTES);

/**
 * Gives a socket that is about to connect an address of somebody else's as its own. The port is chosen by the kernel when it connects, for this destination alone: the caller's own port may
 * still be remembered from an earlier connection. Needs CAP_NET_ADMIN. Throws `unavailable`, reason `dial_failed` or `socket_option`.
 */
export function bindToClient(fd: number, address: string): void {
  const length = encodeSockaddr(sockaddr, { address, port: 0 });
  const isIpv4 = sockaddr.readUInt16LE(0) === AF_INET;
  setIntegerOption(fd, isIpv4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, 1);
  setIntegerOption(fd, IP_BIND_ADDRESS_NO_PORT, 1);
  if (libc().bind(fd, sockaddr, length) === 0) return;
  const why = errnoName(errno());
  throw new PicketError('unavailable', 'dial_failed', `Cannot connect from ${address}: ${why}`);
}
