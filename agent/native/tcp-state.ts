import { ptr } from 'bun:ffi';
import { allocateNative, libc } from './libc.ts';
import { IPPROTO_TCP, readSocketOption } from './socket-option.ts';

const TCP_INFO = { level: IPPROTO_TCP, name: 11 };
/** net/tcp_states.h: TCP_ESTABLISHED, and TCP_CLOSE_WAIT, where the other side has said all that it has to say. */
const OPEN_STATES = new Set([1, 8]);

/** linux/sockios.h. */
const SIOCOUTQ = 0x5411;
const unsent = allocateNative(4);

/** TCP_CLOSE. */
const CLOSED = 7;

/** Whether a socket that was to connect has come to nothing already: its error is still to be read. */
export function isTcpClosed(fd: number): boolean {
  const info = readSocketOption(fd, TCP_INFO, 1);
  return info?.length === 1 && info.readUInt8(0) === CLOSED;
}

/** How many bytes that the kernel has of us the other end's kernel has not acknowledged; 0 of what is no connection. */
export function countUnsentBytes(fd: number): number {
  return libc().ioctl(fd, SIOCOUTQ, ptr(unsent)) < 0 ? 0 : unsent.readInt32LE(0);
}

/** Whether the connection of an accepted socket stands: it was neither reset nor closed by us. */
export function isTcpOpen(fd: number): boolean {
  const info = readSocketOption(fd, TCP_INFO, 1);
  return info?.length === 1 && OPEN_STATES.has(info.readUInt8(0));
}
