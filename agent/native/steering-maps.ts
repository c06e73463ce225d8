import { decodeIpAddress, encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { allocateNative } from './libc.ts';
import type { MapShape } from './bpf-map.ts';
import type { SocketAddress } from './socket-address.ts';

/**
 * What the steering programs know, and what they write down. Addresses are of 16 bytes everywhere, IPv4 as IPv4-mapped IPv6; ports are as in a packet.
 *
 *     numbers     kind u32 | number u32, ports as in a packet                 members of sets
 *     networks    prefix bits u32 | kind u8 | 0 u8 | port u16be | address 16   members of sets; the prefix counts from the kind on
 *     own         address 16                                                  addresses of this host, beside loopback
 *     records     cookie u64 -> address 16 | port u16be | 0 6 | thread id u32 | process id u32 | uid u32 | gid u32
 */
const NUMBER_KEY_BYTES = 8;
export const NETWORK_KEY_BYTES = 24;
export const ADDRESS_BYTES = 16;
export const COOKIE_BYTES = 8;
export const RECORD_BYTES = 40;
export const RECORD_PORT = 16;
export const RECORD_PROCESS = 24;
export const RECORD_USER = 32;

/** Sets of numbers. */
export const NUMBER_KINDS = { user: 1, outboundPort: 2, localPort: 3 } as const;
/** Sets of networks: those to which TCP passes, and those to a port of which UDP does. */
export const NETWORK_KINDS = { tcp: 1, udp: 2 } as const;

/** Bits before the address in a network's key. */
export const NETWORK_HEAD_BITS = 32;
const IPV4_BITS = 96;

/** As many of each as the settings may have. */
const MAX_NUMBERS = 4096;
const MAX_NETWORKS = 4096;
export const MAX_OWN_ADDRESSES = 4096;

export const STEERING_MAPS = {
  numbers: { type: 'hash', keyBytes: NUMBER_KEY_BYTES, valueBytes: 1, maxEntries: MAX_NUMBERS },
  networks: { type: 'lpm_trie', keyBytes: NETWORK_KEY_BYTES, valueBytes: 1, maxEntries: MAX_NETWORKS },
  own: { type: 'hash', keyBytes: ADDRESS_BYTES, valueBytes: 1, maxEntries: MAX_OWN_ADDRESSES },
} as const satisfies Readonly<Record<string, MapShape>>;

/**
 * The map of captured connections. When it is full the oldest one goes that nobody asks for: then the agent does not know where that connection was going, and refuses
 * it. It never finds another's, since a cookie comes once.
 */
export function recordsShape(maxEntries: number): MapShape {
  return { type: 'lru_hash', keyBytes: COOKIE_BYTES, valueBytes: RECORD_BYTES, maxEntries };
}

/** A network with the port to which it is open; 0 where that is all of them. */
export interface SteeringNetwork {
  readonly kind: keyof typeof NETWORK_KINDS;
  readonly address: string;
  readonly prefixBits: number;
  readonly port: number;
}

/** What a program wrote down when it steered a connection. */
export interface SteeringRecord {
  /** Where the connection was going. */
  readonly destination: SocketAddress;
  /** Who called connect(2). Others may hold the socket by now. */
  readonly pid: number;
  readonly uid: number;
}

/** A port as it stands in a packet, read as a number of this machine; and back. */
export function swapPort(port: number): number {
  return ((port & 0xff) << 8) | (port >> 8);
}

/** The key of a number in a set. */
export function encodeNumber(kind: keyof typeof NUMBER_KINDS, number: number): Buffer {
  const key = allocateNative(NUMBER_KEY_BYTES);
  key.writeUInt32LE(NUMBER_KINDS[kind], 0);
  key.writeUInt32LE(kind === 'user' ? number : swapPort(number), 4);
  return key;
}

/** The key of a network in a set. */
export function encodeNetwork({ kind, address, prefixBits, port }: SteeringNetwork): Buffer {
  const key = allocateNative(NETWORK_KEY_BYTES);
  const bytes = encodeIpAddress(address);
  const before = NETWORK_HEAD_BITS + (bytes.length === 4 ? IPV4_BITS : 0);
  key.writeUInt32LE(before + prefixBits, 0);
  key.writeUInt8(NETWORK_KINDS[kind], 4);
  key.writeUInt16BE(port, 6);
  key.set(encodeSteeringAddress(address), 8);
  return key;
}

/** An address of 16 bytes. */
export function encodeSteeringAddress(address: string): Uint8Array {
  const bytes = encodeIpAddress(address);
  if (bytes.length === ADDRESS_BYTES) return bytes;
  return Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes]);
}

/** Reads a record. Throws `RangeError` for too few bytes. */
export function decodeRecord(value: Buffer): SteeringRecord {
  return {
    destination: {
      address: decodeIpAddress(value.subarray(0, ADDRESS_BYTES)),
      port: value.readUInt16BE(RECORD_PORT),
    },
    pid: value.readUInt32LE(RECORD_PROCESS + 4),
    uid: value.readUInt32LE(RECORD_USER),
  };
}

/** A member of a set of numbers, as text: `local port 5432`. */
export function describeNumber(key: Buffer): string {
  const [kind, number] = [key.readUInt32LE(0), key.readUInt32LE(4)];
  if (kind === NUMBER_KINDS.user) return `user ${number}`;
  return `${kind === NUMBER_KINDS.localPort ? 'local port' : 'outbound port'} ${swapPort(number)}`;
}

/** A member of a set of networks, as text: `tcp 192.0.2.0/24`, `udp 192.0.2.53/32 port 53`. */
export function describeNetwork(key: Buffer): string {
  const kind = key.readUInt8(4) === NETWORK_KINDS.udp ? 'udp' : 'tcp';
  const address = decodeIpAddress(key.subarray(8, 8 + ADDRESS_BYTES));
  const bits = key.readUInt32LE(0) - NETWORK_HEAD_BITS - (address.includes(':') ? 0 : IPV4_BITS);
  const port = key.readUInt16BE(6);
  return `${kind} ${address}/${bits}${port === 0 ? '' : ` port ${port}`}`;
}
