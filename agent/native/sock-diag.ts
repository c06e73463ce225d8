import { isIPv4 } from 'node:net';
import { allocateNative, errnoName } from './libc.ts';
import { askNetlink, netlinkError, nextSequence } from './netlink.ts';
import type { InNamespace } from './network-namespace.ts';
import {
  decodeAnswer,
  encodeDestruction,
  encodeQuery,
  encodeUdpQuery,
  QUERY_BYTES,
  TCP_CONNECTIONS,
  TCP_LISTEN,
  type DiagnosisMessage,
  type TcpQuery,
  type TcpSocket,
  type UdpQuery,
  type UdpSocket,
} from './sock-diag-message.ts';
import type { SocketAddress } from './socket-address.ts';

const NETLINK_SOCK_DIAG = 4;
const ENOENT = 2;

/** A question whose answer is longer is not answered at all: half of the listeners would be a wrong answer. */
const MAX_SOCKETS = 4096;
/** Of UDP so many are gone through here: anybody can open more at a port, and each of his datagrams asks. So many take half a millisecond. */
const MAX_AT_UDP_PORT = 512;
/** How often a dump is begun again when the sockets changed under it. */
const MAX_DUMPS = 5;

const question = allocateNative(QUERY_BYTES);
const ASKED = {
  family: NETLINK_SOCK_DIAG,
  bytes: question,
  reason: 'sock_diag',
  action: 'Cannot look up a socket',
};

/**
 * The TCP socket of a network namespace between two addresses, `local` being its own; undefined where there is none, or several
 * that only their interfaces tell apart. The exact question takes 6 us. It does not find a socket that is bound to an
 * interface: for that, all sockets are gone through, 0.2 ms for an empty table of 262,144 buckets. Throws `unavailable`, reason `sock_diag`.
 */
export function findTcpConnection(
  local: SocketAddress,
  remote: SocketAddress,
  where: InNamespace = {},
): TcpSocket | undefined {
  if (isIPv4(local.address) !== isIPv4(remote.address)) return undefined;
  const isMeant = (socket: TcpSocket): boolean => isBetween(socket, local, remote);
  // Where there is no connection the kernel answers with a listener at the local address.
  const found = ask({ kind: 'exact', local, remote }, where).find(isMeant);
  if (found !== undefined) return found;
  const ports = { localPort: local.port, remotePort: remote.port };
  const meant = ask({ kind: 'dump', states: TCP_CONNECTIONS, ...ports }, where).filter(isMeant);
  return meant.length === 1 ? meant[0] : undefined;
}

/**
 * Ends a connection of a network namespace, whoever's it is: its program gets ECONNABORTED. Only that very socket, not a later one between the same addresses; whether
 * there was one. Needs CAP_NET_ADMIN, and CONFIG_INET_DIAG_DESTROY in the kernel. Throws `unavailable`, reason `sock_diag`.
 */
export function destroyTcpConnection(socket: TcpSocket, { namespace }: InNamespace = {}): boolean {
  const sequence = nextSequence(ASKED.family);
  const length = encodeDestruction(question, sequence, socket);
  return askNetlink({ ...ASKED, namespace, action: 'Cannot end a connection', length }, (receive) => {
    const [answer] = decodeAnswer(receive(), sequence);
    if (answer?.kind !== 'error') throw netlinkError(ASKED, 'the kernel answers with something else');
    if (answer.errorNumber === 0) return true;
    if (answer.errorNumber === ENOENT) return false;
    throw netlinkError(ASKED, errnoName(answer.errorNumber));
  });
}

/** As `findTcpConnection`, by the exact question alone: a socket that is bound to an interface is not found. */
export function findExactTcpConnection(
  local: SocketAddress,
  remote: SocketAddress,
  where: InNamespace = {},
): TcpSocket | undefined {
  if (isIPv4(local.address) !== isIPv4(remote.address)) return undefined;
  return ask({ kind: 'exact', local, remote }, where).find((socket) => isBetween(socket, local, remote));
}

/**
 * The connection that begins at an address and port, where there is just one beside those with the mark: the kernel gives one port to connections to different places, ours among them. Throws `unavailable`,
 * reason `sock_diag`.
 */
export function findOnlyTcpConnectionFrom(
  local: SocketAddress,
  { besideMark, ...where }: InNamespace & { readonly besideMark: number },
): TcpSocket | undefined {
  const query = { kind: 'dump', states: TCP_CONNECTIONS, localPort: local.port, remotePort: 0 } as const;
  const meant = ask(query, where, besideMark).filter((socket) => isEqual(socket.local, local));
  return meant.length === 1 ? meant[0] : undefined;
}

/** All sockets of a network namespace that listen at a TCP port, whatever their address. Throws `unavailable`, reason `sock_diag`. */
export function findTcpListeners(port: number, where: InNamespace = {}): readonly TcpSocket[] {
  const listeners = ask({ kind: 'dump', states: TCP_LISTEN, localPort: port, remotePort: 0 }, where);
  return listeners.filter(({ local }) => local.port === port);
}

/** Whose sockets count, and where. */
export interface UdpSenderOptions extends InNamespace {
  readonly mayBeOf: (uid: number) => boolean;
  /** All of those at the port that count, and perhaps others, where there are too many to be gone through; none where there are too many of those. */
  readonly searchCrowd?: (() => readonly UdpSocket[]) | undefined;
}

/**
 * The UDP sockets of a network namespace from which a datagram between two addresses may have come, `local` being its own. Every socket at that port may send from any address of the host (IP_PKTINFO,
 * IPV6_PKTINFO), and to anybody, whatever it is bound and connected to; but only one whose user `mayBeOf` does not exclude. One that would get the answers is told of whoever's it is. Where there are more sockets at that port than are gone
 * through here, those of others may be passed over by a search in the kernel; none are found where there is no search, or where those that count are too many. One goes through all buckets of the kernel's table, twice
 * where an IPv6 socket may speak IPv4. Throws `unavailable`, reason `sock_diag` or `bpf`.
 */
export function findUdpSenders(
  { local, remote }: { readonly local: SocketAddress; readonly remote: SocketAddress },
  { mayBeOf, searchCrowd, ...where }: UdpSenderOptions,
): readonly UdpSocket[] {
  const isV4 = isIPv4(local.address);
  const mayBe = (socket: UdpSocket): boolean => {
    if (socket.local.port !== local.port || (isV4 ? socket.isIpv6Only : !socket.isIpv6)) return false;
    return mayBeOf(socket.uid) || isAnswered(socket, local, remote);
  };
  const found: UdpSocket[] = [];
  for (const isIpv6 of isV4 ? [false, true] : [true]) {
    const sockets = askUdp({ kind: 'udp', isIpv6, localPort: local.port }, { where, mayBe });
    if (sockets === 'many') return searchCrowd?.().filter(mayBe) ?? [];
    found.push(...sockets);
  }
  return found;
}

/** Whether what comes from `remote` to `local` may be given to it. */
function isAnswered(socket: UdpSocket, local: SocketAddress, remote: SocketAddress): boolean {
  const isHere = socket.local.address === local.address || isUnspecified(socket.local);
  return isHere && (isEqual(socket.remote, remote) || isUnconnected(socket));
}

function isUnconnected({ remote }: UdpSocket): boolean {
  return remote.port === 0 && isUnspecified(remote);
}

/** An IPv4-mapped zero counts as one. */
function isUnspecified({ address }: SocketAddress): boolean {
  return address === '0.0.0.0' || address === '::';
}

function isBetween(socket: TcpSocket, local: SocketAddress, remote: SocketAddress): boolean {
  return isEqual(socket.local, local) && isEqual(socket.remote, remote);
}

function isEqual(a: SocketAddress, b: SocketAddress): boolean {
  return a.port === b.port && a.address === b.address;
}

function ask(query: TcpQuery, where: InNamespace, besideMark?: number): readonly TcpSocket[] {
  return untilConsistent(() => {
    const sequence = nextSequence(ASKED.family);
    const length = encodeQuery(question, sequence, query);
    return askNetlink({ ...ASKED, ...where, length }, (receive) =>
      collect(() => decodeAnswer(receive(), sequence), { isDump: query.kind === 'dump', besideMark }),
    );
  });
}

/** Those at a port that may be meant, or that there are too many of them; or of others. */
function askUdp(
  query: UdpQuery,
  { where, mayBe }: { readonly where: InNamespace; readonly mayBe: (socket: UdpSocket) => boolean },
): readonly UdpSocket[] | 'many' {
  return untilConsistent(() => {
    const sequence = nextSequence(ASKED.family);
    const length = encodeUdpQuery(question, sequence, query);
    let isMany = false;
    const sockets = askNetlink({ ...ASKED, ...where, length }, (receive) =>
      collect(() => decodeAnswer(receive(), sequence), {
        isDump: true,
        isEnough: (all) => (isMany = all.length > MAX_AT_UDP_PORT),
      }),
    );
    return isMany ? 'many' : sockets?.filter(mayBe);
  });
}

/** What is asked until it is not undefined. */
function untilConsistent<T>(askOnce: () => T | undefined): T {
  for (let dump = 0; dump < MAX_DUMPS; dump++) {
    const answer = askOnce();
    if (answer !== undefined) return answer;
  }
  throw netlinkError(ASKED, 'the sockets change faster than they can be listed');
}

/** Undefined when the kernel says that the listing is not consistent, and when what has come by now is enough. */
function collect(
  receive: () => readonly DiagnosisMessage[],
  {
    isDump,
    isEnough = () => false,
    besideMark,
  }: {
    readonly isDump: boolean;
    readonly isEnough?: (sockets: readonly TcpSocket[]) => boolean;
    /** Which sockets do not count. */
    readonly besideMark?: number | undefined;
  },
): readonly TcpSocket[] | undefined {
  const sockets: TcpSocket[] = [];
  for (;;) {
    const messages = receive();
    if (messages.length === 0) throw netlinkError(ASKED, 'the kernel answers with nothing');
    for (const message of messages) {
      if (message.kind === 'done') return sockets;
      if (message.kind === 'error') return refuse(message.errorNumber);
      if (message.isInterrupted) return undefined;
      if (message.mark !== besideMark) sockets.push(message.socket);
    }
    if (!isDump) return sockets;
    if (isEnough(sockets)) return undefined;
    if (sockets.length > MAX_SOCKETS) throw netlinkError(ASKED, `more than ${MAX_SOCKETS} sockets match`);
  }
}

function refuse(errorNumber: number): readonly TcpSocket[] {
  if (errorNumber === ENOENT) return [];
  throw netlinkError(ASKED, errnoName(errorNumber));
}
