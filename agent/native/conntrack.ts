import {
  decodeTrackingAnswer,
  encodeTrackingQuery,
  MAX_TRACKING_QUERY_BYTES,
  type KnownDirection,
  type TrackedConnection,
} from './conntrack-message.ts';
import { allocateNative, errnoName } from './libc.ts';
import { askNetlink, netlinkError, nextSequence } from './netlink.ts';
import type { InNamespace } from './network-namespace.ts';
import type { SocketAddress } from './socket-address.ts';

const NETLINK_NETFILTER = 12;
const ENOENT = 2;

const question = allocateNative(MAX_TRACKING_QUERY_BYTES);
const ASKED = {
  family: NETLINK_NETFILTER,
  bytes: question,
  reason: 'conntrack',
  action: 'Cannot look up where a connection came from',
};

export interface TrackedWhere extends InNamespace {
  /** Zone of connection tracking; where nobody chose one unless given. */
  readonly zone?: number;
}

/**
 * The connection of which a direction is known, as connection tracking has it; undefined where it has none. Needs CAP_NET_ADMIN. Throws
 * `unavailable`, reason `conntrack`.
 */
export function findTrackedConnection(
  known: KnownDirection,
  { namespace, zone }: TrackedWhere = {},
): TrackedConnection | undefined {
  const sequence = nextSequence(ASKED.family);
  const length = encodeTrackingQuery(question, sequence, { ...known, zone });
  return askNetlink({ ...ASKED, namespace, length }, (receive) => {
    const answer = decodeTrackingAnswer(receive(), sequence);
    if (answer === undefined) throw netlinkError(ASKED, 'the kernel answers with something else');
    if (answer.kind === 'error' && answer.errorNumber === ENOENT) return undefined;
    if (answer.kind === 'error') throw netlinkError(ASKED, errnoName(answer.errorNumber));
    // The kernel looks for a connection that has these ends in either direction.
    const found = answer[known.side];
    const isMeant = isSameEnd(found.source, known.source) && isSameEnd(found.destination, known.destination);
    return isMeant ? { original: answer.original, reply: answer.reply } : undefined;
  });
}

/** Whether two ends are one. */
export function isSameEnd(a: SocketAddress, b: SocketAddress): boolean {
  return a.port === b.port && a.address === b.address;
}
