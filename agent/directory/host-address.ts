import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { decodeIpAddress, encodeIpAddress } from '../../shared/runtime/ip-address.ts';

const LOOPBACK = buildList([
  ['127.0.0.0', 8, 'ipv4'],
  ['0.0.0.0', 32, 'ipv4'],
  ['::1', 128, 'ipv6'],
  ['::', 128, 'ipv6'],
]);

/** Addresses that many hosts have at once or that nobody answers at (RFC 6890). `::/96` holds loopback and the IPv4-compatible ones, which nobody uses. */
const NEVER_OF_ONE_HOST = buildList([
  ['0.0.0.0', 8, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['224.0.0.0', 4, 'ipv4'],
  ['255.255.255.255', 32, 'ipv4'],
  ['::', 96, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
  ['ff00::', 8, 'ipv6'],
]);

/** The one spelling of an address: dotted for IPv4 and IPv4-mapped IPv6, RFC 5952 for other IPv6. Undefined for what is none, or has a zone. */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  if (!isIPv6(text) || text.includes('%')) return undefined;
  return decodeIpAddress(encodeIpAddress(text));
}

/** Whether a canonical address is the host itself wherever it is used. Linux takes the unspecified address as a destination for loopback. */
export function isLoopback(address: string): boolean {
  // Dotted there is one spelling, and each connection asks several times.
  if (!address.includes(':')) return address.startsWith('127.') || address === '0.0.0.0';
  return LOOPBACK.check(address, 'ipv6');
}

/** Whether a canonical address can be one host's alone, so that a directory may name who answers there. */
export function isHostAddress(address: string): boolean {
  return !NEVER_OF_ONE_HOST.check(address, familyOf(address));
}

/** Where an IPv4 address stands in an IPv6 one: by NAT64 (`64:ff9b::/96`, RFC 6052), stateless translation (`::ffff:0:0:0/96`, RFC 2765), 6to4 (`2002::/16`, RFC 3056) and, within any prefix, ISATAP (RFC 5214). */
const EMBEDDINGS = [
  { from: 0, prefix: [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0], at: 12 },
  { from: 0, prefix: [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], at: 12 },
  { from: 0, prefix: [0x20, 0x02], at: 2 },
  { from: 8, prefix: [0, 0, 0x5e, 0xfe], at: 12 },
  { from: 8, prefix: [0x02, 0, 0x5e, 0xfe], at: 12 },
] as const;

/** The IPv4 addresses to which a translator may take a canonical IPv6 one; none for most. */
export function embeddedIpv4s(address: string): readonly string[] {
  const bytes = encodeIpAddress(address);
  if (bytes.length !== 16) return [];
  return EMBEDDINGS.filter(({ from, prefix }) => prefix.every((byte, i) => bytes[from + i] === byte)).map(
    ({ at }) => decodeIpAddress(bytes.subarray(at, at + 4)),
  );
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIPv4(address) ? 'ipv4' : 'ipv6';
}

function buildList(subnets: readonly (readonly [string, number, 'ipv4' | 'ipv6'])[]): BlockList {
  const list = new BlockList();
  for (const [address, prefix, family] of subnets) list.addSubnet(address, prefix, family);
  return list;
}
