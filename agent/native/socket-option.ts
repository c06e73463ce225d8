import { PicketError } from '../../shared/errors/errors.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';

/** Socket option levels and names of Linux (asm-generic/socket.h, linux/in.h, linux/tcp.h), for x86-64 and arm64. */
export const SOL_IP = 0;
export const SOL_SOCKET = 1;
export const IPPROTO_TCP = 6;
export const SOL_IPV6 = 41;

/** Longer than every option read here: sockaddr_in6 is 28 bytes. */
const MAX_OPTION_BYTES = 64;

const value = allocateNative(MAX_OPTION_BYTES);
const length = allocateNative(4);

/** Reads up to `bytes` of an option; the view is good until the next call. Undefined when the kernel refuses, with `errno()` still to be read. */
export function readSocketOption(
  fd: number,
  option: { readonly level: number; readonly name: number },
  bytes: number,
): Buffer | undefined {
  length.writeUInt32LE(bytes, 0);
  if (libc().getsockopt(fd, option.level, option.name, value, length) < 0) return undefined;
  return value.subarray(0, Math.min(bytes, length.readUInt32LE(0)));
}

/** Sets an option that is an int. Throws `unavailable`, reason `socket_option`, naming `what`. */
export function setIntegerOption(
  fd: number,
  option: { readonly level: number; readonly name: number; readonly what: string },
  integer: number,
): void {
  value.writeInt32LE(integer | 0, 0);
  setOption(fd, option, 4);
}

/** Sets an option that is a pair of ints, as SO_LINGER's is. Throws like `setIntegerOption`. */
export function setPairOption(
  fd: number,
  option: { readonly level: number; readonly name: number; readonly what: string },
  pair: readonly [number, number],
): void {
  value.writeInt32LE(pair[0], 0);
  value.writeInt32LE(pair[1], 4);
  setOption(fd, option, 8);
}

function setOption(
  fd: number,
  option: { readonly level: number; readonly name: number; readonly what: string },
  bytes: number,
): void {
  if (libc().setsockopt(fd, option.level, option.name, value, bytes) === 0) return;
  const why = errnoName(errno());
  throw new PicketError('unavailable', 'socket_option', `Cannot set ${option.what} on a socket: ${why}`);
}
