import { decodeIpAddress, encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { IPPROTO_UDP } from './datagram-packet.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';
import type { SocketAddress } from './socket-address.ts';

/** A TCP socket of this network namespace as the kernel describes it. */
export interface TcpSocket {
  readonly local: SocketAddress;
  /** `0.0.0.0:0` or `[::]:0` for a listener. */
  readonly remote: SocketAddress;
  /** The user that made the socket, or that it was given to by fchown(2); 0 where no process holds it any more. */
  readonly uid: number;
  /** The number in `/proc/PID/fd/N -> socket:[inode]`; 0 where no process holds it any more. */
  readonly inode: number;
  /** Never given to another socket while the machine runs. */
  readonly cookie: bigint;
  /** Index of the one interface that the socket is bound to; 0 where it is bound to none. */
  readonly interfaceIndex: number;
  /** Whether a listener at an IPv6 address takes no IPv4 connections. */
  readonly isIpv6Only: boolean;
  readonly isIpv6: boolean;
}

/** A UDP socket, which is described alike; `remote` is that of connect(2), if it was called. */
export type UdpSocket = TcpSocket;

/** States of TCP (net/tcp_states.h) as a mask. */
export const TCP_LISTEN = 1 << 10;
const TCP_TIME_WAIT = 1 << 6;
/** Every connection that a process can still hold. */
export const TCP_CONNECTIONS = 0xfff & ~(TCP_LISTEN | TCP_TIME_WAIT);

/** All UDP sockets of one family at a local port. */
export interface UdpQuery {
  readonly kind: 'udp';
  readonly isIpv6: boolean;
  readonly localPort: number;
}

/** What to ask for. Addresses of an exact question are of one family; a dump is of both, filtered by ports where they are not 0. */
export type TcpQuery =
  | { readonly kind: 'exact'; readonly local: SocketAddress; readonly remote: SocketAddress }
  | {
      readonly kind: 'dump';
      readonly states: number;
      readonly localPort: number;
      readonly remotePort: number;
    };

/** One message of an answer. `errorNumber` is positive; `mark` is the socket's (SO_MARK), which the kernel tells those with CAP_NET_ADMIN, 0 for none. */
export type DiagnosisMessage =
  | {
      readonly kind: 'socket';
      readonly socket: TcpSocket;
      readonly mark: number;
      readonly isInterrupted: boolean;
    }
  | { readonly kind: 'done' }
  | { readonly kind: 'error'; readonly errorNumber: number };

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const TCPDIAG_GETSOCK = 18;
const SOCK_DESTROY = 21;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;

const HEADER_BYTES = 16;
const SOCKET_BYTES = 72;
const INET_DIAG_SKV6ONLY = 11;
const INET_DIAG_MARK = 15;
const IPPROTO_TCP = 6;

/** Length of the longest question. */
export const QUERY_BYTES = 76;
const EXACT_BYTES = 72;

/**
 * Writes a question and returns its length. An exact one (linux/netlink.h, linux/inet_diag.h: struct inet_diag_req_v2):
 *
 *     length u32 | type u16 | flags u16 | sequence u32 | port id u32
 *     family u8 | protocol u8 | extensions u8 | 0 | states u32
 *     local port u16be | remote port u16be | local address 16 | remote address 16 | interface u32 | cookie 8
 *
 * A dump goes through all buckets of the kernel's tables, 20 us for those of listeners. The older question (struct inet_diag_req) needs it once for both
 * families, the newer one twice:
 *
 *     family u8 | 0 u8 | 0 u8 | extensions u8
 *     local port u16be | remote port u16be | local address 16 | remote address 16 | interface u32 | cookie 8 | states u32 | 0 u32
 */
export function encodeQuery(target: Buffer, sequence: number, query: TcpQuery): number {
  target.fill(0, 0, QUERY_BYTES);
  const length = query.kind === 'exact' ? EXACT_BYTES : QUERY_BYTES;
  target.writeUInt32LE(length, 0);
  target.writeUInt16LE(query.kind === 'exact' ? SOCK_DIAG_BY_FAMILY : TCPDIAG_GETSOCK, 4);
  target.writeUInt16LE(query.kind === 'dump' ? NLM_F_REQUEST | NLM_F_DUMP : NLM_F_REQUEST, 6);
  target.writeUInt32LE(sequence, 8);
  if (query.kind === 'exact') encodeExact(target, query);
  else {
    target.writeUInt16BE(query.localPort, 20);
    target.writeUInt16BE(query.remotePort, 22);
    target.writeUInt32LE(query.states, 68);
  }
  return length;
}

/** Writes the newer question, as a dump of the UDP sockets of a family, and returns its length. */
export function encodeUdpQuery(target: Buffer, sequence: number, { isIpv6, localPort }: UdpQuery): number {
  target.fill(0, 0, QUERY_BYTES);
  target.writeUInt32LE(EXACT_BYTES, 0);
  target.writeUInt16LE(SOCK_DIAG_BY_FAMILY, 4);
  target.writeUInt16LE(NLM_F_REQUEST | NLM_F_DUMP, 6);
  target.writeUInt32LE(sequence, 8);
  target.writeUInt8(isIpv6 ? AF_INET6 : AF_INET, 16);
  target.writeUInt8(IPPROTO_UDP, 17);
  target.writeUInt32LE(0xffffffff, 20);
  target.writeUInt16BE(localPort, 24);
  return EXACT_BYTES;
}

/** Writes the order to end a connection, and returns its length: the exact question of `encodeQuery` under another type, with the socket's cookie. */
export function encodeDestruction(target: Buffer, sequence: number, socket: TcpSocket): number {
  const length = encodeQuery(target, sequence, { kind: 'exact', local: socket.local, remote: socket.remote });
  target.writeUInt16LE(SOCK_DESTROY, 4);
  target.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK, 6);
  target.writeBigUInt64LE(socket.cookie, 64);
  return length;
}

/**
 * Reads the messages of one datagram that answer `sequence`; others are passed over. What is cut short ends the reading: the kernel sends
 * whole messages, so the rest is none of ours.
 */
export function decodeAnswer(datagram: Buffer, sequence: number): readonly DiagnosisMessage[] {
  const messages: DiagnosisMessage[] = [];
  for (let at = 0; at + HEADER_BYTES <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > datagram.length) break;
    const message = datagram.subarray(at, at + length);
    if (message.readUInt32LE(8) === sequence) {
      const decoded = decodeMessage(message);
      if (decoded !== undefined) messages.push(decoded);
    }
    at += (length + 3) & ~3;
  }
  return messages;
}

function encodeExact(
  target: Buffer,
  { local, remote }: { readonly local: SocketAddress; readonly remote: SocketAddress },
): void {
  const localBytes = encodeIpAddress(local.address);
  target.writeUInt8(IPPROTO_TCP, 17);
  // Any cookie.
  target.fill(0xff, 64, EXACT_BYTES);
  target.writeUInt8(localBytes.length === 4 ? AF_INET : AF_INET6, 16);
  target.writeUInt32LE(0xffffffff, 20);
  target.writeUInt16BE(local.port, 24);
  target.writeUInt16BE(remote.port, 26);
  target.set(localBytes, 28);
  target.set(encodeIpAddress(remote.address), 44);
}

function decodeMessage(message: Buffer): DiagnosisMessage | undefined {
  const type = message.readUInt16LE(4);
  if (type === NLMSG_DONE) return decodeDone(message);
  if (type === NLMSG_ERROR && message.length >= HEADER_BYTES + 4)
    return { kind: 'error', errorNumber: -message.readInt32LE(HEADER_BYTES) };
  const isSocket = type === SOCK_DIAG_BY_FAMILY || type === TCPDIAG_GETSOCK;
  if (!isSocket || message.length < HEADER_BYTES + SOCKET_BYTES) return undefined;
  const isInterrupted = (message.readUInt16LE(6) & NLM_F_DUMP_INTR) !== 0;
  const body = message.subarray(HEADER_BYTES);
  return { kind: 'socket', socket: decodeSocket(body), mark: readMark(body), isInterrupted };
}

function readMark(body: Buffer): number {
  const mark = findAttribute(body, INET_DIAG_MARK);
  return mark?.length === 4 ? mark.readUInt32LE(0) : 0;
}

/** A dump that failed half-way ends with the (negative) error number in its last message. */
function decodeDone(message: Buffer): DiagnosisMessage {
  const status = message.length >= HEADER_BYTES + 4 ? message.readInt32LE(HEADER_BYTES) : 0;
  return status < 0 ? { kind: 'error', errorNumber: -status } : { kind: 'done' };
}

/**
 * struct inet_diag_msg, followed by attributes:
 *
 *     family u8 | state u8 | timer u8 | retransmits u8 | local port u16be | remote port u16be | local address 16 | remote address 16
 *     interface u32 | cookie u64 | expires u32 | receive queue u32 | send queue u32 | uid u32 | inode u32
 */
function decodeSocket(body: Buffer): TcpSocket {
  const isIpv6 = body.readUInt8(0) === AF_INET6;
  const bytes = isIpv6 ? 16 : 4;
  return {
    local: { address: decodeIpAddress(body.subarray(8, 8 + bytes)), port: body.readUInt16BE(4) },
    remote: { address: decodeIpAddress(body.subarray(24, 24 + bytes)), port: body.readUInt16BE(6) },
    interfaceIndex: body.readUInt32LE(40),
    cookie: body.readBigUInt64LE(44),
    uid: body.readUInt32LE(64),
    inode: body.readUInt32LE(68),
    isIpv6,
    isIpv6Only: isIpv6 && findAttribute(body, INET_DIAG_SKV6ONLY)?.[0] === 1,
  };
}

/** Attributes: length u16 | type u16 | value, each padded to 4 bytes. */
function findAttribute(body: Buffer, type: number): Buffer | undefined {
  for (let at = SOCKET_BYTES; at + 4 <= body.length;) {
    const length = body.readUInt16LE(at);
    if (length < 4 || at + length > body.length) return undefined;
    if (body.readUInt16LE(at + 2) === type) return body.subarray(at + 4, at + length);
    at += (length + 3) & ~3;
  }
  return undefined;
}
