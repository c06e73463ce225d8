import { allocateNative, libc } from './libc.ts';
import { readSocketOption, SOL_SOCKET } from './socket-option.ts';

const SO_PEERCRED = { level: SOL_SOCKET, name: 17 };
const SO_PEERPIDFD = { level: SOL_SOCKET, name: 77 };
const UCRED_BYTES = 12;

/** struct pollfd: descriptor i32 | events i16 | returned events i16. */
const POLLFD_BYTES = 8;
const POLLIN = 1;

const pollfd = allocateNative(POLLFD_BYTES);

/** Who connected a unix socket, as the kernel noted it at connect. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** The process at the other end of a unix socket; undefined where there is none to name: a TCP socket, or a process outside our pid namespace. */
export function findPeerCredentials(fd: number): PeerCredentials | undefined {
  const ucred = readSocketOption(fd, SO_PEERCRED, UCRED_BYTES);
  if (ucred === undefined || ucred.length < UCRED_BYTES) return undefined;
  const pid = ucred.readInt32LE(0);
  return pid > 0 ? { pid, uid: ucred.readUInt32LE(4), gid: ucred.readUInt32LE(8) } : undefined;
}

/**
 * A pidfd of the peer's process: it never names a later process with the same pid. The caller closes it. Undefined before Linux 6.5, or
 * when that process has been reaped.
 */
export function openPeerPidfd(fd: number): number | undefined {
  const pidfd = readSocketOption(fd, SO_PEERPIDFD, 4);
  return pidfd?.length === 4 ? pidfd.readInt32LE(0) : undefined;
}

/** Whether the process of a pidfd still runs: a pidfd becomes readable when its process ends, be it reaped or not. */
export function isPidfdAlive(pidfd: number): boolean {
  pollfd.writeInt32LE(pidfd, 0);
  pollfd.writeInt16LE(POLLIN, 4);
  pollfd.writeInt16LE(0, 6);
  return libc().poll(pollfd, 1, 0) === 0;
}
