import { PicketError } from '../../shared/errors/errors.ts';
import { findTrackedConnection, isSameEnd } from './conntrack.ts';
import { closeDescriptor, dialForTraffic, type DialTarget } from './dial.ts';
import { readSocketName } from './socket-name.ts';
import { isTcpClosed } from './tcp-state.ts';

/** An application of this host's own network namespace, and from whose address it is connected. */
export interface TransparentTarget extends Omit<DialTarget, 'namespace' | 'client'> {
  readonly client: string;
  /** The zone of connection tracking in which the capture rules have such connections (`CaptureSettings.transparentId`). */
  readonly zone: number;
}

/**
 * As `dialForTraffic`, from an address that is not this host's. What the application answers comes back by the capture rules alone: where they do not have the connection, or somebody's address
 * translation makes it one from another address, it is given up at once. Throws as that; `unavailable`, reason `dial_failed`, with what is in the way.
 */
export function dialAsClient({ zone, ...target }: TransparentTarget): number {
  const fd = dialForTraffic(target);
  try {
    requireWayBack(fd, { ...target, zone });
    return fd;
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/** The packet that opens the connection has gone through the rules by now: that happens within connect(2). So may the answer of an application that refuses it. */
function requireWayBack(fd: number, { address, port, client, zone }: TransparentTarget): void {
  if (isTcpClosed(fd)) return;
  const source = readSocketName(fd, 'getsockname');
  const known =
    source === undefined
      ? undefined
      : ({ side: 'original', source, destination: { address, port } } as const);
  const tracked = known === undefined ? undefined : findTrackedConnection(known, { zone });
  if (known === undefined || tracked === undefined)
    throw refused(client, 'the capture rules that bring answers back are not in force');
  const { source: there, destination: here } = tracked.reply;
  if (!isSameEnd(here, known.source))
    throw refused(
      client,
      `address translation (NAT) of somebody else on this host makes ${here.address} of it`,
    );
  if (!isSameEnd(there, known.destination))
    throw refused(
      client,
      `address translation (NAT) of somebody else on this host leads it to ${there.address}`,
    );
}

function refused(client: string, why: string): PicketError {
  return new PicketError('unavailable', 'dial_failed', `Cannot connect from ${client}: ${why}`);
}
