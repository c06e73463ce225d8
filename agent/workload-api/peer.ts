import { readFileSync, statSync } from 'node:fs';
import { closeDescriptor } from '../native/dial.ts';
import {
  findPeerCredentials,
  isPidfdAlive,
  openPeerPidfd,
  type PeerCredentials,
} from '../native/peer-credentials.ts';

/** The process that connected to one of our unix sockets. */
export interface Peer {
  readonly pid: number;
  /** Its effective user and group when it connected. */
  readonly uid: number;
  readonly gid: number;
  /** Whether that process still runs: while it is true the pid means that process and no later one. */
  isAlive(): boolean;
  /** Frees what is held to tell. `isAlive` is false from then on. */
  close(): void;
}

/** SO_PEERPIDFD came with Linux 6.5. */
const PIDFD_SINCE = { major: 6, minor: 5 };
/** Field 22 of /proc/PID/stat, counted from the one behind the program's name (field 3). */
const START_TIME_FIELD = 22 - 3;

/**
 * Who is at the other end of an accepted connection, to be called at once after the accept; undefined when the kernel names nobody or that
 * process has ended meanwhile. `kernelRelease` is what `uname -r` says. The caller closes the peer.
 */
export function openPeer(fd: number, kernelRelease: string): Peer | undefined {
  const credentials = findPeerCredentials(fd);
  if (credentials === undefined) return undefined;
  if (!hasPeerPidfd(kernelRelease)) return openByStartTime(credentials);
  const pidfd = openPeerPidfd(fd);
  return pidfd === undefined ? undefined : openByPidfd(pidfd, credentials);
}

/** Whether a kernel can name the peer by a pidfd. */
export function hasPeerPidfd(kernelRelease: string): boolean {
  const [major = 0, minor = 0] = kernelRelease.split('.').map((part) => Number.parseInt(part, 10));
  return major > PIDFD_SINCE.major || (major === PIDFD_SINCE.major && minor >= PIDFD_SINCE.minor);
}

/** The start time in clock ticks since boot; undefined when there is no such process. */
export function parseStartTime(stat: string): string | undefined {
  // The name stands in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const startTime = fields[START_TIME_FIELD];
  return startTime !== undefined && /^\d+$/.test(startTime) ? startTime : undefined;
}

function openByPidfd(pidfd: number, process: PeerCredentials): Peer | undefined {
  // Newer kernels name a process that has been reaped, too.
  if (!isPidfdAlive(pidfd)) {
    closeDescriptor(pidfd);
    return undefined;
  }
  let isOpen = true;
  return {
    ...process,
    isAlive: () => isOpen && isPidfdAlive(pidfd),
    close: () => {
      if (isOpen) closeDescriptor(pidfd);
      isOpen = false;
    },
  };
}

/** What is left before Linux 6.5: a process with that pid that started at the same time, and that may be that user's. */
function openByStartTime(process: PeerCredentials): Peer | undefined {
  const { pid, uid } = process;
  const startTime = readStartTime(pid);
  if (startTime === undefined || !mayBelongTo(pid, uid)) return undefined;
  let isOpen = true;
  return {
    ...process,
    isAlive: () => isOpen && readStartTime(pid) === startTime,
    close: () => {
      isOpen = false;
    },
  };
}

function readStartTime(pid: number): string | undefined {
  try {
    return parseStartTime(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** The folder of a process that must not be dumped belongs to root, whoever's process it is. */
function mayBelongTo(pid: number, uid: number): boolean {
  const owner = statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid;
  return owner === uid || owner === 0;
}
