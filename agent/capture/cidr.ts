import { PicketError } from '../../shared/errors/errors.ts';
import { decodeIpAddress, encodeIpAddress } from '../../shared/runtime/ip-address.ts';

/** A network: its first address in RFC 5952 form and the bits that are fixed. */
export interface Cidr {
  readonly family: 'ip' | 'ip6';
  readonly address: string;
  readonly prefixBits: number;
}

/**
 * Parses `10.0.0.0/8`, `fd00::/8` or one address. Bits beyond the prefix are cleared. Throws `invalid_argument`, reason `cidr_invalid`.
 */
export function parseCidr(text: string): Cidr {
  const [address = '', prefix, ...rest] = text.slice(0, 64).split('/');
  const bytes = readAddress(text, address);
  const bits = bytes.length * 8;
  const prefixBits = prefix === undefined ? bits : readPrefix(prefix, bits);
  if (prefixBits === undefined || rest.length > 0) throw invalid(text);
  return {
    family: bytes.length === 4 ? 'ip' : 'ip6',
    address: decodeIpAddress(clearBeyond(bytes, prefixBits)),
    prefixBits,
  };
}

/** The same addresses in as few of the given networks as possible: two networks are nested or apart, and nested ones go. */
export function withoutNested(networks: readonly Cidr[]): Cidr[] {
  const widestFirst = networks.toSorted((a, b) => a.prefixBits - b.prefixBits);
  const kept: Cidr[] = [];
  for (const network of widestFirst) if (!kept.some((outer) => contains(outer, network))) kept.push(network);
  return kept;
}

/** `10.0.0.0/8`, as `parseCidr` reads it. */
export function formatCidr(network: Cidr): string {
  return `${network.address}/${network.prefixBits}`;
}

/** Whether an address, as `encodeIpAddress` writes it, is in the network. IPv4 and IPv6 are apart. */
export function isInNetwork({ address, prefixBits }: Cidr, bytes: Uint8Array): boolean {
  const own = encodeIpAddress(address);
  return own.length === bytes.length && decodeIpAddress(clearBeyond(bytes, prefixBits)) === address;
}

/** Whether there is an address that is in both. */
export function overlaps(one: Cidr, other: Cidr): boolean {
  return contains(one, other) || contains(other, one);
}

function contains(outer: Cidr, inner: Cidr): boolean {
  if (outer.family !== inner.family || outer.prefixBits > inner.prefixBits) return false;
  return decodeIpAddress(clearBeyond(encodeIpAddress(inner.address), outer.prefixBits)) === outer.address;
}

function readAddress(text: string, address: string): Uint8Array {
  try {
    return encodeIpAddress(address);
  } catch (cause) {
    throw invalid(text, cause);
  }
}

function readPrefix(prefix: string, bits: number): number | undefined {
  if (!/^(0|[1-9]\d{0,2})$/.test(prefix)) return undefined;
  const value = Number(prefix);
  return value <= bits ? value : undefined;
}

function clearBeyond(bytes: Uint8Array, prefixBits: number): Uint8Array {
  return bytes.map((byte, i) => {
    const kept = Math.min(8, Math.max(0, prefixBits - 8 * i));
    return byte & (0xff << (8 - kept));
  });
}

function invalid(text: string, cause?: unknown): PicketError {
  const message = `Cannot parse network "${text.slice(0, 64)}": expected an address such as 10.0.0.0/8 or fd00::/8`;
  return new PicketError('invalid_argument', 'cidr_invalid', message, { cause });
}
