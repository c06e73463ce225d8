import { decodeIpAddress, encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { buildAttribute, buildNest, findAttribute } from './netlink-attribute.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';
import type { SocketAddress } from './socket-address.ts';

/** One direction of a TCP connection as connection tracking knows it. */
export interface TrackedDirection {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
}

/** Both of them. They mirror each other unless an address or a port is translated. */
export interface TrackedConnection {
  readonly original: TrackedDirection;
  readonly reply: TrackedDirection;
}

/** A direction by which a connection is asked for, and which one it is. */
export interface KnownDirection extends TrackedDirection {
  readonly side: keyof TrackedConnection;
}

/** What connection tracking answers. `errorNumber` is positive. */
export type TrackingAnswer =
  | ({ readonly kind: 'connection' } & TrackedConnection)
  | { readonly kind: 'error'; readonly errorNumber: number };

const NLMSG_ERROR = 2;
/** NFNL_SUBSYS_CTNETLINK above IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_NEW (linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h). */
const CONNTRACK_GET = 0x0101;
const CONNTRACK_NEW = 0x0100;
const NLM_F_REQUEST = 0x1;

/** Attributes of enum ctattr_type, ctattr_tuple, ctattr_ip and ctattr_l4proto. */
const TUPLES = { original: 1, reply: 2 };
const ZONE = 18;
const TUPLE_IP = 1;
const TUPLE_PROTOCOL = 2;
const IPV4 = { source: 1, destination: 2 };
const IPV6 = { source: 3, destination: 4 };
const PROTOCOL_NUMBER = 1;
const SOURCE_PORT = 2;
const DESTINATION_PORT = 3;

/** nlmsghdr 16, nfgenmsg 4. */
const HEADER_BYTES = 16;
const PREFIX_BYTES = 20;
const IPPROTO_TCP = 6;

/** Longest question, of IPv6. */
export const MAX_TRACKING_QUERY_BYTES = 104;

/**
 * Writes the question for the connection of which a direction is known, in a zone of connection tracking (0: where nobody chose one), and returns its length.
 *
 *     length u32 | type u16 | flags u16 | sequence u32 | port id u32
 *     family u8 | version u8 | 0 u16 | direction { addresses { source, destination }, protocol { number, source port, destination port } } | zone u16be
 */
export function encodeTrackingQuery(
  target: Buffer,
  sequence: number,
  { zone = 0, ...known }: KnownDirection & { readonly zone?: number | undefined },
): number {
  const source = encodeIpAddress(known.source.address);
  const destination = encodeIpAddress(known.destination.address);
  const names = source.length === 4 ? IPV4 : IPV6;
  const addresses = buildNest(TUPLE_IP, [
    buildAttribute(names.source, source),
    buildAttribute(names.destination, destination),
  ]);
  const protocol = buildNest(TUPLE_PROTOCOL, [
    buildAttribute(PROTOCOL_NUMBER, Uint8Array.of(IPPROTO_TCP)),
    buildAttribute(SOURCE_PORT, portBytes(known.source.port)),
    buildAttribute(DESTINATION_PORT, portBytes(known.destination.port)),
  ]);
  const tuple = buildNest(TUPLES[known.side], [addresses, protocol]);
  const zoned = zone === 0 ? tuple : Buffer.concat([tuple, buildAttribute(ZONE, portBytes(zone))]);
  const length = PREFIX_BYTES + zoned.length;
  target.fill(0, 0, PREFIX_BYTES);
  target.writeUInt32LE(length, 0);
  target.writeUInt16LE(CONNTRACK_GET, 4);
  target.writeUInt16LE(NLM_F_REQUEST, 6);
  target.writeUInt32LE(sequence, 8);
  target.writeUInt8(source.length === 4 ? AF_INET : AF_INET6, HEADER_BYTES);
  target.set(zoned, PREFIX_BYTES);
  return length;
}

/** Reads the answer to `sequence` from a datagram; undefined where there is none that can be read. */
export function decodeTrackingAnswer(datagram: Buffer, sequence: number): TrackingAnswer | undefined {
  if (datagram.length < PREFIX_BYTES || datagram.readUInt32LE(8) !== sequence) return undefined;
  const length = datagram.readUInt32LE(0);
  if (length < PREFIX_BYTES || length > datagram.length) return undefined;
  const type = datagram.readUInt16LE(4);
  if (type === NLMSG_ERROR) return { kind: 'error', errorNumber: -datagram.readInt32LE(HEADER_BYTES) };
  if (type !== CONNTRACK_NEW) return undefined;
  const attributes = datagram.subarray(PREFIX_BYTES, length);
  const original = decodeDirection(findAttribute(attributes, TUPLES.original));
  const reply = decodeDirection(findAttribute(attributes, TUPLES.reply));
  return original === undefined || reply === undefined ? undefined : { kind: 'connection', original, reply };
}

function decodeDirection(tuple: Buffer | undefined): TrackedDirection | undefined {
  const addresses = findAttribute(tuple, TUPLE_IP);
  const protocol = findAttribute(tuple, TUPLE_PROTOCOL);
  if (findAttribute(protocol, PROTOCOL_NUMBER)?.[0] !== IPPROTO_TCP) return undefined;
  const source = decodeEnd(
    addresses,
    { v4: IPV4.source, v6: IPV6.source },
    findAttribute(protocol, SOURCE_PORT),
  );
  const destination = decodeEnd(
    addresses,
    { v4: IPV4.destination, v6: IPV6.destination },
    findAttribute(protocol, DESTINATION_PORT),
  );
  return source === undefined || destination === undefined ? undefined : { source, destination };
}

function decodeEnd(
  addresses: Buffer | undefined,
  names: { readonly v4: number; readonly v6: number },
  port: Buffer | undefined,
): SocketAddress | undefined {
  const v4 = findAttribute(addresses, names.v4);
  const v6 = findAttribute(addresses, names.v6);
  const address = v4?.length === 4 ? v4 : v6?.length === 16 ? v6 : undefined;
  if (address === undefined || port?.length !== 2) return undefined;
  return { address: decodeIpAddress(address), port: port.readUInt16BE(0) };
}

function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >> 8, port & 0xff);
}
