import { allocateNative, libc } from './libc.ts';
import { decodeSockaddr, isIpv4Sockaddr, SOCKADDR_IN6_BYTES, SOCKADDR_IN_BYTES } from './sockaddr.ts';
import type { SocketAddress } from './socket-address.ts';
import { readSocketOption, SOL_IP, SOL_IPV6 } from './socket-option.ts';

/** SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h): both are 80. */
const SO_ORIGINAL_DST = 80;

const localName = allocateNative(SOCKADDR_IN6_BYTES);
const localNameLength = allocateNative(4);

/**
 * Where an accepted TCP connection was going before it was redirected to us. Undefined when it was not redirected at all, that is when
 * somebody connected to our own listener. The family of the socket decides which table is asked: asking both would let a local
 * process answer an IPv6 question with an IPv4 connection of its making.
 */
export function findOriginalDestination(fd: number): SocketAddress | undefined {
  localNameLength.writeUInt32LE(SOCKADDR_IN6_BYTES, 0);
  if (libc().getsockname(fd, localName, localNameLength) < 0) return undefined;
  const local = decodeSockaddr(localName);
  const original = isIpv4Sockaddr(localName)
    ? readSocketOption(fd, { level: SOL_IP, name: SO_ORIGINAL_DST }, SOCKADDR_IN_BYTES)
    : readSocketOption(fd, { level: SOL_IPV6, name: SO_ORIGINAL_DST }, SOCKADDR_IN6_BYTES);
  const destination = original === undefined ? undefined : decodeSockaddr(original);
  if (local === undefined || destination === undefined) return undefined;
  const isRedirected = destination.address !== local.address || destination.port !== local.port;
  return isRedirected ? destination : undefined;
}
