import { decodeTrackingAnswer, encodeTrackingQuery, MAX_TRACKING_QUERY_BYTES } from './conntrack-message.ts';
import { allocateNative, errnoName, libc } from './libc.ts';
import { askNetlink, netlinkError, nextSequence } from './netlink.ts';
import { decodeSockaddr, SOCKADDR_IN6_BYTES } from './sockaddr.ts';
import type { SocketAddress } from './socket-address.ts';

const NETLINK_NETFILTER = 12;
const ENOENT = 2;

const name = allocateNative(SOCKADDR_IN6_BYTES);
const nameLength = allocateNative(4);
const question = allocateNative(MAX_TRACKING_QUERY_BYTES);
const ASKED = {
  family: NETLINK_NETFILTER,
  bytes: question,
  reason: 'conntrack',
  action: 'Cannot look up where a connection came from',
};

/**
 * From where a program made the connection that was redirected to us. The accepted socket shows another port for some: a program may use one
 * source port for connections to several places, and where their redirection makes them look the same, the kernel's NAT changes the port of the later
 * one, while the former is open or remembered. Undefined where the kernel does not track the connection any more. It needs CAP_NET_ADMIN. Throws
 * `unavailable`, reason `conntrack`.
 */
export function findOriginalSource(fd: number): SocketAddress | undefined {
  const local = readName(fd, 'getsockname');
  const remote = readName(fd, 'getpeername');
  if (local === undefined || remote === undefined) return undefined;
  const sequence = nextSequence(ASKED.family);
  const length = encodeTrackingQuery(question, sequence, { source: local, destination: remote });
  return askNetlink({ ...ASKED, length }, (receive) => {
    const answer = decodeTrackingAnswer(receive(), sequence);
    if (answer === undefined) throw netlinkError(ASKED, 'the kernel answers with something else');
    if (answer.kind === 'error' && answer.errorNumber === ENOENT) return undefined;
    if (answer.kind === 'error') throw netlinkError(ASKED, errnoName(answer.errorNumber));
    const { original, reply } = answer;
    return isEqual(reply.source, local) && isEqual(reply.destination, remote) ? original.source : undefined;
  });
}

function readName(fd: number, call: 'getsockname' | 'getpeername'): SocketAddress | undefined {
  nameLength.writeUInt32LE(SOCKADDR_IN6_BYTES, 0);
  return libc()[call](fd, name, nameLength) < 0 ? undefined : decodeSockaddr(name);
}

function isEqual(a: SocketAddress, b: SocketAddress): boolean {
  return a.port === b.port && a.address === b.address;
}
