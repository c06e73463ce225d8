import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { netlinkError, openNetlinkSocket } from './netlink.ts';

export const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;

/** linux/rtnetlink.h: enum rtnetlink_groups, as far as somebody asks for them. */
const RTNETLINK_GROUPS = {
  links: 1,
  ipv4Addresses: 5,
  ipv4Routes: 7,
  ipv6Addresses: 9,
  ipv6Routes: 11,
} as const;

const group = allocateNative(4);

export interface RtnetlinkWatchOptions {
  readonly groups: readonly (keyof typeof RTNETLINK_GROUPS)[];
  /** Reason of the error where they cannot be heard, and what is being done, as its message begins. */
  readonly reason: string;
  readonly action: string;
  /** Something of these groups changed in this network namespace. */
  readonly onChange: () => void;
  /** The kernel tells no more: its messages came faster than they were read. */
  readonly onEnd: () => void;
}

/** Hears of every change at once. What it returns ends it, without `onEnd`. Throws `unavailable` with the reason. */
export async function watchRtnetlink(options: RtnetlinkWatchOptions): Promise<() => void> {
  const { onChange, onEnd } = options;
  let isStopped = false;
  const close = (): void => {
    if (!isStopped) onEnd();
  };
  // A netlink socket is read like any other; Bun's types leave the descriptor out.
  const connect = {
    fd: openSubscription(options),
    socket: { data: onChange, close, error: () => undefined },
  };
  const socket = await Bun.connect(connect as unknown as Bun.TCPSocketConnectOptions);
  return () => {
    isStopped = true;
    socket.terminate();
  };
}

function openSubscription({ groups, reason, action }: RtnetlinkWatchOptions): number {
  const watched = { family: NETLINK_ROUTE, reason, action };
  const fd = openNetlinkSocket(watched);
  for (const name of groups) {
    group.writeUInt32LE(RTNETLINK_GROUPS[name], 0);
    if (libc().setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group, 4) === 0) continue;
    const why = errnoName(errno());
    libc().close(fd);
    throw netlinkError(watched, why);
  }
  return fd;
}
