import { decodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { ATTRIBUTE_BYTES, findAttribute } from './netlink-attribute.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';

/** Links, routes and network namespaces as the kernel tells them (linux/rtnetlink.h), as far as they are read here. */
export type RtnetlinkMessage =
  | { readonly kind: 'link'; readonly link: PairedLink }
  | { readonly kind: 'route'; readonly route: HostRoute }
  /** `id` is undefined for a namespace that the kernel has given no number here: nothing of it is connected to this one. */
  | { readonly kind: 'namespace'; readonly id: number | undefined }
  | { readonly kind: 'done' }
  | { readonly kind: 'error'; readonly errorNumber: number };

/** This side of a veth pair, the other side of which is in another network namespace. */
export interface PairedLink {
  readonly interfaceIndex: number;
  /** The number by which this namespace knows the other one. */
  readonly namespaceId: number;
  /** Whether it is part of another interface, such as a bridge: what comes by it comes by that, as others' does. */
  readonly isPart: boolean;
}

/** A route to one single address, which leads straight to an interface, and which somebody made. */
export interface HostRoute {
  /** In canonical spelling. */
  readonly address: string;
  readonly interfaceIndex: number;
}

/** What was asked for, in the order in which messages are numbered. */
export type RtnetlinkQuery =
  | { readonly kind: 'links' }
  | { readonly kind: 'routes'; readonly family: 'ipv4' | 'ipv6' }
  /** Of the namespace that a descriptor of this process is open on. */
  | { readonly kind: 'namespace'; readonly fd: number };

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_NEWROUTE = 24;
const RTM_GETROUTE = 26;
const RTM_NEWNSID = 88;
const RTM_GETNSID = 90;
const NLM_F_REQUEST = 0x1;
const NLM_F_DUMP = 0x300;
const NLM_F_DUMP_INTR = 0x10;

const HEADER_BYTES = 16;
/** struct ifinfomsg: family u8 | 0 u8 | type u16 | index s32 | flags u32 | change u32 */
const LINK_BYTES = 16;
/** struct rtmsg: family u8 | destination bits u8 | source bits u8 | tos u8 | table u8 | protocol u8 | scope u8 | type u8 | flags u32 */
const ROUTE_BYTES = 12;
/** struct rtgenmsg: family u8, padded. */
const NAMESPACE_BYTES = 4;

const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_EXT_MASK = 29;
const IFLA_LINK_NETNSID = 37;
const RTEXT_FILTER_SKIP_STATS = 8;
const NETNSA_NSID = 1;
const NETNSA_FD = 3;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_MULTIPATH = 9;
const RTA_VIA = 18;

const RTN_UNICAST = 1;
const RT_TABLE_MAIN = 254;
/** RTPROT_UNSPEC and RTPROT_REDIRECT; of IPv6 also RTPROT_KERNEL and RTPROT_RA, which a neighbour can bring about by advertising himself as a router (RFC 4861, RFC 4191). */
const NOBODYS_PROTOCOLS = { ipv4: [0, 1], ipv6: [0, 1, 2, 9] } as const satisfies Record<
  string,
  readonly number[]
>;
/** RTM_F_CLONED and RTNH_F_DEAD. Without RTNH_F_LINKDOWN: whoever has the other end of the pair could switch that on and off. */
const NOT_IN_USE = 0x200 | 1;

/** Length of the longest question. */
export const RTNETLINK_QUERY_BYTES = HEADER_BYTES + LINK_BYTES + ATTRIBUTE_BYTES + 4;

/** Writes a question, and returns its length. */
export function encodeRtnetlinkQuery(target: Buffer, sequence: number, query: RtnetlinkQuery): number {
  target.fill(0, 0, RTNETLINK_QUERY_BYTES);
  target.writeUInt32LE(sequence, 8);
  switch (query.kind) {
    case 'links':
      encodeAttribute(target, HEADER_BYTES + LINK_BYTES, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
      return encodeHeader(target, {
        type: RTM_GETLINK,
        flags: NLM_F_DUMP,
        length: HEADER_BYTES + LINK_BYTES + ATTRIBUTE_BYTES + 4,
      });
    case 'routes':
      target.writeUInt8(query.family === 'ipv4' ? AF_INET : AF_INET6, HEADER_BYTES);
      return encodeHeader(target, {
        type: RTM_GETROUTE,
        flags: NLM_F_DUMP,
        length: HEADER_BYTES + ROUTE_BYTES,
      });
    case 'namespace':
      encodeAttribute(target, HEADER_BYTES + NAMESPACE_BYTES, NETNSA_FD, query.fd);
      return encodeHeader(target, {
        type: RTM_GETNSID,
        flags: 0,
        length: HEADER_BYTES + NAMESPACE_BYTES + ATTRIBUTE_BYTES + 4,
      });
  }
}

/** What one datagram says to the question of a number. `isInterrupted`: something changed while the kernel was telling, so that all of it is to be asked again. */
export interface RtnetlinkAnswer {
  readonly messages: readonly RtnetlinkMessage[];
  readonly isInterrupted: boolean;
}

/** Reads the messages of one datagram that answer `sequence`; what is none of the kinds above is passed over, and what is cut short ends the reading. */
export function decodeRtnetlinkAnswer(datagram: Buffer, sequence: number): RtnetlinkAnswer {
  const messages: RtnetlinkMessage[] = [];
  let isInterrupted = false;
  for (let at = 0; at + HEADER_BYTES <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > datagram.length) break;
    const message = datagram.subarray(at, at + length);
    at += (length + 3) & ~3;
    if (message.readUInt32LE(8) !== sequence) continue;
    isInterrupted ||= (message.readUInt16LE(6) & NLM_F_DUMP_INTR) !== 0;
    const decoded = decodeMessage(message.readUInt16LE(4), message.subarray(HEADER_BYTES));
    if (decoded !== undefined) messages.push(decoded);
  }
  return { messages, isInterrupted };
}

function decodeMessage(type: number, body: Buffer): RtnetlinkMessage | undefined {
  switch (type) {
    case NLMSG_DONE:
      return decodeDone(body);
    case NLMSG_ERROR:
      return body.length < 4 ? undefined : { kind: 'error', errorNumber: -body.readInt32LE(0) };
    case RTM_NEWLINK:
      return decodeLink(body);
    case RTM_NEWROUTE:
      return decodeRoute(body);
    case RTM_NEWNSID: {
      const id = readSigned(findAttribute(body.subarray(NAMESPACE_BYTES), NETNSA_NSID));
      return { kind: 'namespace', id: id === undefined || id < 0 ? undefined : id };
    }
    default:
      return undefined;
  }
}

/** A dump that failed half-way ends with the (negative) error number. */
function decodeDone(body: Buffer): RtnetlinkMessage {
  const status = readSigned(body.subarray(0, 4)) ?? 0;
  return status < 0 ? { kind: 'error', errorNumber: -status } : { kind: 'done' };
}

/** Of other kinds than veth the number may be that of what they stand on, which says nothing of who is behind them. */
function decodeLink(body: Buffer): RtnetlinkMessage | undefined {
  if (body.length < LINK_BYTES) return undefined;
  const attributes = body.subarray(LINK_BYTES);
  const kind = findAttribute(findAttribute(attributes, IFLA_LINKINFO), IFLA_INFO_KIND);
  const namespaceId = readSigned(findAttribute(attributes, IFLA_LINK_NETNSID));
  if (kind?.toString('latin1') !== 'veth\0' || namespaceId === undefined || namespaceId < 0) return undefined;
  const isPart = findAttribute(attributes, IFLA_MASTER) !== undefined;
  return { kind: 'link', link: { interfaceIndex: body.readInt32LE(4), namespaceId, isPart } };
}

function decodeRoute(body: Buffer): RtnetlinkMessage | undefined {
  if (body.length < ROUTE_BYTES) return undefined;
  const family = body.readUInt8(0) === AF_INET ? 'ipv4' : 'ipv6';
  const bytes = family === 'ipv4' ? 4 : 16;
  const attributes = body.subarray(ROUTE_BYTES);
  const [bits, table, protocol, type] = [body[1], body[4], body[5], body[7]];
  const destination = findAttribute(attributes, RTA_DST);
  const interfaceIndex = readSigned(findAttribute(attributes, RTA_OIF));
  const isStraight = [RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA].every(
    (other) => findAttribute(attributes, other) === undefined,
  );
  const isUsed = type === RTN_UNICAST && (body.readUInt32LE(8) & NOT_IN_USE) === 0;
  const isMade = !NOBODYS_PROTOCOLS[family].some((each) => each === protocol);
  if (bits !== 8 * bytes || table !== RT_TABLE_MAIN || !isMade) return undefined;
  if (!isStraight || !isUsed || destination?.length !== bytes || interfaceIndex === undefined)
    return undefined;
  return { kind: 'route', route: { address: decodeIpAddress(destination), interfaceIndex } };
}

function encodeHeader(
  target: Buffer,
  { type, flags, length }: { readonly type: number; readonly flags: number; readonly length: number },
): number {
  target.writeUInt32LE(length, 0);
  target.writeUInt16LE(type, 4);
  target.writeUInt16LE(NLM_F_REQUEST | flags, 6);
  return length;
}

function encodeAttribute(target: Buffer, at: number, ...[type, value]: readonly [number, number]): void {
  target.writeUInt16LE(ATTRIBUTE_BYTES + 4, at);
  target.writeUInt16LE(type, at + 2);
  target.writeUInt32LE(value, at + ATTRIBUTE_BYTES);
}

function readSigned(value: Buffer | undefined): number | undefined {
  return value?.length === 4 ? value.readInt32LE(0) : undefined;
}
