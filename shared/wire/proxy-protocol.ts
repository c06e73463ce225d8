/** One end of a connection: 4 or 16 bytes of address, and a port. */
export interface ProxyEnd {
  readonly address: Uint8Array;
  readonly port: number;
}

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
/** Version 2, command PROXY. */
const VERSION_AND_COMMAND = 0x21;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;
const IPV4_MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/**
 * The header of PROXY protocol version 2 that tells an application who connected, and where to. Where the two ends are of different families, both are told as
 * IPv6, the one of IPv4 mapped. There is no parser on purpose: what a peer says there is nobody's proof.
 *
 * | bytes | |
 * |---|---|
 * | 12 | signature |
 * | 1 | version and command, 0x21 |
 * | 1 | family and transport: 0x11 TCP over IPv4, 0x21 TCP over IPv6 |
 * | 2 | length of what follows: 12 or 36 |
 * | 4 or 16, twice | source and destination address |
 * | 2, twice | source and destination port |
 */
export function buildProxyHeader(source: ProxyEnd, destination: ProxyEnd): Uint8Array {
  const isFour = source.address.length === 4 && destination.address.length === 4;
  const addresses = [source, destination].flatMap(({ address }) => spell(address, isFour));
  const ports = [source, destination].flatMap(({ port }) => bigEndian(port));
  const family = isFour ? TCP_OVER_IPV4 : TCP_OVER_IPV6;
  const length = bigEndian(addresses.length + ports.length);
  return Uint8Array.from([...SIGNATURE, VERSION_AND_COMMAND, family, ...length, ...addresses, ...ports]);
}

function spell(address: Uint8Array, isFour: boolean): readonly number[] {
  return isFour || address.length === 16 ? [...address] : [...IPV4_MAPPED, ...address];
}

function bigEndian(value: number): readonly number[] {
  return [(value >> 8) & 0xff, value & 0xff];
}
