import { decodeIpAddress, encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { AF_INET6 } from './sockaddr.ts';
import type { UdpSocket } from './sock-diag-message.ts';
import type { SocketAddress } from './socket-address.ts';

/** Users of a host, from the first to the last. */
export interface UserSpan {
  readonly first: number;
  readonly last: number;
}

/** Whose sockets are sought: those of users who may have sent from one address to another, and whoever's that get the answers. */
export interface SoughtSenders {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  readonly users: readonly UserSpan[];
}

/**
 * The memory by which the agent and its program in the kernel speak of UDP sockets at a port.
 *
 *     records u32 | 1 where records are missing u32 | port u32 | 1 for IPv6 u32 | sockets gone through u64 | 0 u64
 *     local address 16 | remote address 16 | first and last user u32 each, MAX_USER_SPANS times
 *     records
 */
export const UDP_AREA = {
  count: 0,
  isCut: 4,
  port: 8,
  isIpv6: 12,
  passed: 16,
  local: 32,
  remote: 48,
  users: 64,
  records: 64 + 8 * 8,
  maxRecords: 512,
  recordBytes: 64,
  bytes: 64 + 8 * 8 + 512 * 64,
} as const;

/** So many spans of users can be sought at once. */
export const MAX_USER_SPANS = 8;

/**
 * One record. Addresses of a socket of IPv4 are in the first four bytes of theirs; a port of another machine is big-endian.
 *
 *     cookie u64 | inode u32 | user u32 | family u32 | 1 where it takes no IPv4 u32 | interface u32 | remote port u16be | 0 u16
 *     local address 16 | remote address 16
 */
export const UDP_RECORD = {
  cookie: 0,
  inode: 8,
  uid: 12,
  family: 16,
  isIpv6Only: 20,
  interfaceIndex: 24,
  remotePort: 28,
  local: 32,
  remote: 48,
} as const;

/** Says what is sought; there are no records then. */
export function writeSought(area: Buffer, { local, remote, users }: SoughtSenders): void {
  const localBytes = encodeIpAddress(local.address);
  area.fill(0, 0, UDP_AREA.records);
  area.writeUInt32LE(local.port, UDP_AREA.port);
  area.writeUInt32LE(localBytes.length === 4 ? 0 : 1, UDP_AREA.isIpv6);
  area.set(localBytes, UDP_AREA.local);
  area.set(encodeIpAddress(remote.address), UDP_AREA.remote);
  for (let i = 0; i < MAX_USER_SPANS; i++) {
    // One that is not used has nobody in it.
    const { first, last } = users[i] ?? { first: 1, last: 0 };
    area.writeUInt32LE(first, UDP_AREA.users + 8 * i);
    area.writeUInt32LE(last, UDP_AREA.users + 8 * i + 4);
  }
}

/** How many sockets the program went through. */
export function readPassed(area: Buffer): number {
  return Number(area.readBigUInt64LE(UDP_AREA.passed));
}

/** The sockets that the program wrote down; undefined where it did not write down all. */
export function readUdpSockets(area: Buffer): readonly UdpSocket[] | undefined {
  if (area.readUInt32LE(UDP_AREA.isCut) !== 0) return undefined;
  const port = area.readUInt32LE(UDP_AREA.port);
  return Array.from({ length: area.readUInt32LE(UDP_AREA.count) }, (_, i) => {
    const at = UDP_AREA.records + i * UDP_AREA.recordBytes;
    return readUdpSocket(area.subarray(at, at + UDP_AREA.recordBytes), port);
  });
}

function readUdpSocket(record: Buffer, port: number): UdpSocket {
  const isIpv6 = record.readUInt32LE(UDP_RECORD.family) === AF_INET6;
  const addressAt = (at: number): string => decodeIpAddress(record.subarray(at, at + (isIpv6 ? 16 : 4)));
  return {
    local: { address: addressAt(UDP_RECORD.local), port },
    remote: { address: addressAt(UDP_RECORD.remote), port: record.readUInt16BE(UDP_RECORD.remotePort) },
    uid: record.readUInt32LE(UDP_RECORD.uid),
    inode: record.readUInt32LE(UDP_RECORD.inode),
    cookie: record.readBigUInt64LE(UDP_RECORD.cookie),
    interfaceIndex: record.readUInt32LE(UDP_RECORD.interfaceIndex),
    isIpv6,
    isIpv6Only: isIpv6 && record.readUInt32LE(UDP_RECORD.isIpv6Only) === 1,
  };
}
