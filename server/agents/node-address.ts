import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { PicketError } from '../../shared/errors/errors.ts';

declare const nodeAddressBrand: unique symbol;

/** An address that can be one host's: IPv4 in dotted form, IPv6 in RFC 5952 form, never IPv4-mapped. */
export type NodeAddress = string & { readonly [nodeAddressBrand]: true };

/** Addresses that many hosts have at once or that nobody answers at (RFC 6890): a claim to one would stand for other hosts. */
const NEVER_OF_ONE_HOST = buildBlockList();

/**
 * Parses the address of a node into its one spelling. Throws `invalid_argument`, reason `address_invalid`, also for loopback, link-local,
 * unspecified, multicast and broadcast addresses.
 */
export function parseNodeAddress(text: string): NodeAddress {
  const address = canonical(text);
  if (address === undefined) throw invalid(text, 'it is not an IP address');
  if (NEVER_OF_ONE_HOST.check(address, isIPv4(address) ? 'ipv4' : 'ipv6'))
    throw invalid(text, 'it is loopback, link-local, unspecified, multicast or broadcast');
  return address as NodeAddress;
}

/** Whether `parseNodeAddress` would take it. */
export function isNodeAddress(text: string): boolean {
  const address = canonical(text);
  return address !== undefined && !NEVER_OF_ONE_HOST.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
}

/** The longest text of an IPv6 address. */
const MAX_ADDRESS_CHARACTERS = 45;

function canonical(text: string): string | undefined {
  if (text.length > MAX_ADDRESS_CHARACTERS) return undefined;
  if (isIPv4(text)) return text;
  // A zone (%eth0) belongs to link-local addresses, which are refused anyway.
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const host = URL.parse(`http://[${text}]/`)?.hostname.slice(1, -1);
  return host === undefined ? undefined : (unmapped(host) ?? host);
}

/** ::ffff:c000:201 is 192.0.2.1. */
function unmapped(host: string): string | undefined {
  const match = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(host);
  if (match === null) return undefined;
  const [high, low] = [parseInt(match[1] ?? '', 16), parseInt(match[2] ?? '', 16)];
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}

function buildBlockList(): BlockList {
  const list = new BlockList();
  list.addSubnet('0.0.0.0', 8, 'ipv4');
  list.addSubnet('127.0.0.0', 8, 'ipv4');
  list.addSubnet('169.254.0.0', 16, 'ipv4');
  list.addSubnet('224.0.0.0', 4, 'ipv4');
  list.addSubnet('255.255.255.255', 32, 'ipv4');
  // ::/96 holds the unspecified and the loopback address and the IPv4-compatible ones, which nobody uses (RFC 4291 2.5.5.1).
  list.addSubnet('::', 96, 'ipv6');
  list.addSubnet('fe80::', 10, 'ipv6');
  list.addSubnet('ff00::', 8, 'ipv6');
  return list;
}

function invalid(text: string, why: string): PicketError {
  return new PicketError(
    'invalid_argument',
    'address_invalid',
    `Cannot take "${text.slice(0, 60)}" as the address of a node: ${why}`,
  );
}
