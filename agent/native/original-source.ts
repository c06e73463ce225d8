import { findTrackedConnection } from './conntrack.ts';
import type { InNamespace } from './network-namespace.ts';
import type { SocketAddress } from './socket-address.ts';
import { readSocketName } from './socket-name.ts';

/**
 * From where a program made the connection that was redirected to us. The accepted socket shows another port for some: a program may use one
 * source port for connections to several places, and where their redirection makes them look the same, the kernel's NAT changes the port of the later
 * one, while the former is open or remembered. The namespace is the socket's. Undefined where the kernel does not track the connection any more. It needs CAP_NET_ADMIN. Throws
 * `unavailable`, reason `conntrack`.
 */
export function findOriginalSource(fd: number, { namespace }: InNamespace = {}): SocketAddress | undefined {
  const local = readSocketName(fd, 'getsockname');
  const remote = readSocketName(fd, 'getpeername');
  if (local === undefined || remote === undefined) return undefined;
  const known = { side: 'reply', source: local, destination: remote } as const;
  return findTrackedConnection(known, { namespace })?.original.source;
}
