import type { InNamespace } from './network-namespace.ts';
import { setIntegerOption, SOL_SOCKET } from './socket-option.ts';

const SO_SNDBUF = { level: SOL_SOCKET, name: 7, what: 'SO_SNDBUF' };
const SO_RCVBUF = { level: SOL_SOCKET, name: 8, what: 'SO_RCVBUF' };

/** The kernel takes twice as much, its own needs with it, or `net.core.rmem_max` and `wmem_max` where these are less. Programs there are as near as loopback: more would not be faster. */
const BUFFER_BYTES = 256 * 1024;

/**
 * Bounds what the kernel keeps for a TCP socket that is in another namespace; elsewhere it is as the host has it. How much that is by itself, up to 2 GiB for each connection, root of the namespace says (`tcp_rmem` and `tcp_wmem` are
 * its own), and that memory is the agent's. What a listener accepts has what the listener has. Throws `unavailable`, reason `socket_option`.
 */
export function boundBuffers(fd: number, { namespace }: InNamespace): void {
  if (namespace === undefined) return;
  setIntegerOption(fd, SO_RCVBUF, BUFFER_BYTES);
  setIntegerOption(fd, SO_SNDBUF, BUFFER_BYTES);
}
