import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { netlinkError, openNetlinkSocket } from './netlink.ts';

const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
/** linux/rtnetlink.h: RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR. */
const GROUPS = [5, 9];
const WATCHED = {
  family: NETLINK_ROUTE,
  reason: 'address_watch',
  action: 'Cannot hear of changes of the host’s addresses',
};

const group = allocateNative(4);

export interface AddressWatchOptions {
  /** An interface of this network namespace got or lost an address. */
  readonly onChange: () => void;
  /** The kernel tells no more: its messages came faster than they were read. */
  readonly onEnd: () => void;
}

/** Hears of every change of this host's addresses at once. What it returns ends it, without `onEnd`. Throws `unavailable`, reason `address_watch`. */
export async function watchAddresses({ onChange, onEnd }: AddressWatchOptions): Promise<() => void> {
  let isStopped = false;
  const close = (): void => {
    if (!isStopped) onEnd();
  };
  // A netlink socket is read like any other; Bun's types leave the descriptor out.
  const options = { fd: openSubscription(), socket: { data: onChange, close, error: () => undefined } };
  const socket = await Bun.connect(options as unknown as Bun.TCPSocketConnectOptions);
  return () => {
    isStopped = true;
    socket.terminate();
  };
}

function openSubscription(): number {
  const fd = openNetlinkSocket(WATCHED);
  for (const number of GROUPS) {
    group.writeUInt32LE(number, 0);
    if (libc().setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group, 4) === 0) continue;
    const why = errnoName(errno());
    libc().close(fd);
    throw netlinkError(WATCHED, why);
  }
  return fd;
}
