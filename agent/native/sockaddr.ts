import { decodeIpAddress, encodeIpAddress, isIpv4Mapped } from '../../shared/runtime/ip-address.ts';
import type { SocketAddress } from './socket-address.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;

export const SOCKADDR_IN_BYTES = 16;
export const SOCKADDR_IN6_BYTES = 28;

/**
 * Writes struct sockaddr_in or sockaddr_in6 into `target` and returns its length. Throws TypeError for an address that is none.
 *
 *     sockaddr_in    family u16 | port u16be | address 4 | zero 8
 *     sockaddr_in6   family u16 | port u16be | flow 4 | address 16 | scope 4
 */
export function encodeSockaddr(target: Buffer, { address, port }: SocketAddress): number {
  const bytes = encodeIpAddress(address);
  const isV4 = bytes.length === 4;
  const length = isV4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES;
  target.fill(0, 0, length);
  target.writeUInt16LE(isV4 ? AF_INET : AF_INET6, 0);
  target.writeUInt16BE(port, 2);
  target.set(bytes, isV4 ? 4 : 8);
  return length;
}

/** Reads what the kernel wrote; undefined for another family or too few bytes. */
export function decodeSockaddr(source: Uint8Array): SocketAddress | undefined {
  const address = addressBytes(source);
  if (address === undefined) return undefined;
  return { address: decodeIpAddress(address), port: ((source[2] ?? 0) << 8) | (source[3] ?? 0) };
}

/** Whether a sockaddr is of IPv4, be it in IPv6's clothes: a dual-stack listener hands out such sockets. */
export function isIpv4Sockaddr(source: Uint8Array): boolean {
  const address = addressBytes(source);
  return address !== undefined && (address.length === 4 || isIpv4Mapped(address));
}

function addressBytes(source: Uint8Array): Uint8Array | undefined {
  const family = (source[0] ?? 0) | ((source[1] ?? 0) << 8);
  if (family === AF_INET && source.length >= 8) return source.subarray(4, 8);
  if (family === AF_INET6 && source.length >= 24) return source.subarray(8, 24);
  return undefined;
}
