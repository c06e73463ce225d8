import type { Log } from '../../shared/runtime/log.ts';
import type { ProcessIdentifier } from '../workload-attestation/process-identity.ts';
import { openPeer } from './peer.ts';

/** The process that connected, as long as it is what it was then. */
export interface Caller {
  readonly pid: number;
  readonly uid: number;
  /** Whether that process still runs, the same program with the same rights. Who holds the socket beside it may have made it another. */
  isSame(): boolean;
  /** Frees what is held to tell. */
  close(): void;
}

/**
 * Who connected, to be called at once after the accept. A process that connects and then becomes a program that runs as another user, such as a setuid program, while
 * somebody else keeps the connection, would earn him that user's identity: so it is undefined when the process is not any more the user that
 * the kernel noted at connect, or when there is none. The caller closes it.
 */
export function openCaller(
  fd: number,
  options: {
    readonly kernelRelease: string;
    readonly processes: Pick<ProcessIdentifier, 'observe'>;
    readonly log: Log;
  },
): Caller | undefined {
  const peer = openPeer(fd, options.kernelRelease);
  if (peer === undefined) return undefined;
  const process = options.processes.observe(peer.pid);
  if (process?.uid === peer.uid && process.gid === peer.gid && peer.isAlive()) {
    const isSame = (): boolean => peer.isAlive() && process.isSame();
    return { pid: peer.pid, uid: peer.uid, isSame, close: () => peer.close() };
  }
  options.log.warn('workload_peer_changed', { pid: peer.pid, uid: peer.uid });
  peer.close();
  return undefined;
}
