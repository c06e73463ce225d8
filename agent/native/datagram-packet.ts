import { decodeIpAddress, encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import type { SocketAddress } from './socket-address.ts';

/** A UDP datagram as it was about to leave: whole, and from the socket to which its addresses belong. */
export interface Datagram {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  /** A view of the packet. */
  readonly payload: Buffer;
}

export const IPPROTO_UDP = 17;
const UDP_HEADER_BYTES = 8;
const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
const IPV4_ADDRESSES = { at: 12, bytes: 4 };
const IPV6_ADDRESSES = { at: 8, bytes: 16 };
/** More fragments, and the offset of one: neither has a packet that its own host sends before it is cut. */
const IPV4_FRAGMENT = 0x3fff;

/**
 * Reads the packet of a UDP datagram (RFC 791, RFC 8200, RFC 768) of this host; undefined for what is none, is cut short, is a fragment or has extension headers of IPv6: what is
 * not understood is not decided on.
 *
 *     IPv4   version and header words u8 | 0 u8 | length u16be | id u16be | fragment u16be | ttl u8 | protocol u8 | checksum u16be | source 4 | destination 4 | options
 *     IPv6   version u4, class u8, flow u20 | payload length u16be | next header u8 | hop limit u8 | source 16 | destination 16
 *     UDP    source port u16be | destination port u16be | length u16be | checksum u16be
 */
export function decodeDatagram(packet: Buffer): Datagram | undefined {
  const version = (packet[0] ?? 0) >> 4;
  if (version === 4) return decodeIpv4(packet);
  return version === 6 ? decodeIpv6(packet) : undefined;
}

/** The UDP header and payload between two addresses of one family, with the checksum that the kernel leaves to hardware in packets of its own. Throws RangeError for a payload that is too long. */
export function encodeSegment({ source, destination, payload }: Datagram): Buffer {
  const length = UDP_HEADER_BYTES + payload.length;
  if (length > 0xffff) throw new RangeError('A datagram has at most 65527 bytes');
  const segment = Buffer.from(new ArrayBuffer(length));
  segment.writeUInt16BE(source.port, 0);
  segment.writeUInt16BE(destination.port, 2);
  segment.writeUInt16BE(length, 4);
  segment.set(payload, UDP_HEADER_BYTES);
  const addresses =
    sumWords(encodeIpAddress(source.address)) + sumWords(encodeIpAddress(destination.address));
  const sum = foldSum(addresses + IPPROTO_UDP + length + sumWords(segment));
  // Zero would say that there is none.
  segment.writeUInt16BE(sum === 0xffff ? 0xffff : ~sum & 0xffff, 6);
  return segment;
}

function decodeIpv4(packet: Buffer): Datagram | undefined {
  if (packet.length < IPV4_HEADER_BYTES) return undefined;
  const headerBytes = (packet.readUInt8(0) & 0x0f) * 4;
  if (headerBytes < IPV4_HEADER_BYTES || packet.readUInt16BE(2) !== packet.length) return undefined;
  if ((packet.readUInt16BE(6) & IPV4_FRAGMENT) !== 0 || packet.readUInt8(9) !== IPPROTO_UDP) return undefined;
  return decodeSegment(packet, headerBytes, IPV4_ADDRESSES);
}

function decodeIpv6(packet: Buffer): Datagram | undefined {
  if (packet.length < IPV6_HEADER_BYTES) return undefined;
  if (packet.readUInt16BE(4) !== packet.length - IPV6_HEADER_BYTES) return undefined;
  return packet.readUInt8(6) === IPPROTO_UDP
    ? decodeSegment(packet, IPV6_HEADER_BYTES, IPV6_ADDRESSES)
    : undefined;
}

function decodeSegment(
  packet: Buffer,
  headerBytes: number,
  { at, bytes }: typeof IPV4_ADDRESSES,
): Datagram | undefined {
  if (packet.length < headerBytes + UDP_HEADER_BYTES) return undefined;
  const segment = packet.subarray(headerBytes);
  if (segment.readUInt16BE(4) !== segment.length) return undefined;
  const addressAt = (from: number): string => decodeIpAddress(packet.subarray(from, from + bytes));
  return {
    source: { address: addressAt(at), port: segment.readUInt16BE(0) },
    destination: { address: addressAt(at + bytes), port: segment.readUInt16BE(2) },
    payload: segment.subarray(UDP_HEADER_BYTES),
  };
}

/** The sum of 16-bit words (RFC 1071), not folded: 65,535 bytes stay far below 2^53. */
function sumWords(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return sum;
}

function foldSum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}
