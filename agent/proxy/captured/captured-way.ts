import { PicketError } from '../../../shared/errors/errors.ts';
import { findOriginalDestination } from '../../native/original-destination.ts';
import { findOriginalSource } from '../../native/original-source.ts';
import { findExactTcpConnection } from '../../native/sock-diag.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { SteeringRecord } from '../../native/steering-maps.ts';
import { isTcpOpen } from '../../native/tcp-state.ts';
import type { AcceptedSocket } from '../streams/tcp-stream.ts';

/** A captured connection: the two ends of the socket of the program that made it, and where that wanted to go. */
export interface CapturedWay extends InNamespace {
  readonly client: SocketAddress;
  readonly dialled: SocketAddress;
  readonly destination: SocketAddress;
}

/** Undefined where the connection was not captured. Throws `unavailable` where that cannot be told. */
export type FindCapturedWay = (socket: AcceptedSocket) => CapturedWay | undefined;

/** A connection that nftables redirected: its program's socket knows nothing of it. */
export function findRedirectedWay({ fd, namespace }: AcceptedSocket): CapturedWay | undefined {
  const destination = findOriginalDestination(fd);
  if (destination === undefined) return undefined;
  const client = findOriginalSource(fd, { namespace });
  if (client === undefined)
    throw new PicketError('unavailable', 'conntrack', 'The kernel does not track the connection any more');
  return { client, dialled: destination, destination, namespace };
}

/**
 * A connection that a program in the kernel steered here at connect(2), and recorded under the cookie of the socket. Whoever connects to our port himself has no
 * record. Between the same two addresses there may be another socket by now, of another process: but not as long as our end of the
 * connection is open, which is why that is asked last.
 */
export function findSteeredWay(
  socket: AcceptedSocket,
  findRecord: (cookie: bigint) => SteeringRecord | undefined,
): CapturedWay | undefined {
  const { fd, remote, local } = socket;
  const client = findExactTcpConnection(remote, local);
  const record = client === undefined ? undefined : findRecord(client.cookie);
  if (record === undefined || !isTcpOpen(fd)) return undefined;
  return { client: remote, dialled: local, destination: record.destination };
}
