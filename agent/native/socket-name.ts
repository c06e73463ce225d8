import { allocateNative, libc } from './libc.ts';
import { decodeSockaddr, SOCKADDR_IN6_BYTES } from './sockaddr.ts';
import type { SocketAddress } from './socket-address.ts';

const name = allocateNative(SOCKADDR_IN6_BYTES);
const nameLength = allocateNative(4);

/** One end of a TCP connection, its own or its peer's; undefined where the kernel names none. */
export function readSocketName(fd: number, call: 'getsockname' | 'getpeername'): SocketAddress | undefined {
  nameLength.writeUInt32LE(SOCKADDR_IN6_BYTES, 0);
  return libc()[call](fd, name, nameLength) < 0 ? undefined : decodeSockaddr(name);
}
