import {
  callHelper,
  callKernel,
  compute,
  exit,
  jump,
  jumpIf,
  load,
  loadConstant,
  loadMap,
  register,
  store,
  storeNumber,
  type Line,
  type Operand,
  type Register,
} from './bpf-instructions.ts';
import type { BtfAnswer, BtfQuery } from './btf.ts';
import { NETWORK_HEAD_BITS, NETWORK_KINDS, NUMBER_KINDS } from './steering-maps.ts';

/** What the steering programs are made of. */
export interface SteeringParts {
  readonly types: BtfAnswer;
  /** Of the network namespace whose sockets are steered; those of others pass. */
  readonly netnsCookie: bigint;
  /** SO_MARK of the agent's own sockets. */
  readonly mark: number;
  readonly ports: { readonly outbound: number; readonly inbound: number };
  /** Whether all UDP passes: then the rules behind the programs decide on it. */
  readonly passesUdp: boolean;
  /** Descriptors of the maps. */
  readonly maps: {
    readonly numbers: number;
    readonly networks: number;
    readonly own: number;
    readonly records: number;
  };
}

/** What they ask of the kernel's types. */
export const STEERING_TYPES: BtfQuery = {
  structs: { sock: ['sk_uid'], sock_common: ['skc_cookie'] },
  functions: ['bpf_rdonly_cast'],
};

/** linux/bpf.h: enum bpf_func_id. */
export const HELPERS = {
  findElement: 1,
  putElement: 2,
  dropElement: 3,
  currentProcess: 14,
  currentUser: 15,
  socketCookie: 46,
  netnsCookie: 122,
  setError: 187,
} as const;

/** linux/bpf.h: struct bpf_sock_addr. */
export const CONTEXT = { ipv4: 4, ipv6: 8, port: 24, protocol: 36, socket: 64 } as const;
/** linux/bpf.h: struct bpf_sock. */
export const SOCKET = { interface: 0, protocol: 12, mark: 16, peerPort: 48 } as const;

export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
const ECONNREFUSED = 111;

/** The end of the stack. */
export const STACK = 10;
/** Places on the stack. The address of a network's key is that of a host, too. */
export const ADDRESS = -16;
const NETWORK = ADDRESS - 8;
const NUMBER = -32;
export const COOKIE = -40;

/** 16 bytes as they lie in memory, by four. */
const IPV4_PREFIX = 0xffff0000n;
export const IPV4_LOOPBACK = 0x0100007f;
export const IPV6_LOOPBACK = 0x01000000;
const LOOPBACK_NETWORK = 127;

/** `to = the address of a place on the stack` */
export function stackAddress(to: Register, place: number): readonly Line[] {
  return [compute(to, '=', register(STACK)), compute(to, '+=', place)];
}

/** Jumps where four bytes of an address are those that IPv4-mapped IPv6 has before the last four. `scratch` is destroyed. */
export function jumpIfIpv4Prefix(word: Register, scratch: Register, label: string): readonly Line[] {
  return [loadConstant(scratch, IPV4_PREFIX), jumpIf(word, '==', register(scratch), label)];
}

/** Writes the destination of an IPv4 socket to its place. 0.0.0.0 is loopback, for Linux. */
export function readIpv4Destination(): readonly Line[] {
  return [
    load(4, 1, 6, CONTEXT.ipv4),
    jumpIf(1, '!=', 0, 'specified'),
    compute(1, '=', IPV4_LOOPBACK),
    { label: 'specified' },
    storeNumber(8, STACK, ADDRESS, 0),
    loadConstant(2, IPV4_PREFIX),
    store(4, STACK, ADDRESS + 8, 2),
    store(4, STACK, ADDRESS + 12, 1),
  ];
}

/** The same of an IPv6 socket, which reaches IPv4 by mapped addresses. :: and ::ffff:0.0.0.0 are loopback. */
export function readIpv6Destination(): readonly Line[] {
  const words = [0, 4, 8, 12].flatMap((at) => [
    load(4, 1, 6, CONTEXT.ipv6 + at),
    store(4, STACK, ADDRESS + at, 1),
  ]);
  return [
    ...words,
    load(8, 2, STACK, ADDRESS),
    jumpIf(2, '!=', 0, 'specified'),
    load(4, 1, STACK, ADDRESS + 12),
    jumpIf(1, '!=', 0, 'specified'),
    load(4, 1, STACK, ADDRESS + 8),
    jumpIf(1, '==', 0, 'any ipv6'),
    ...jumpIfIpv4Prefix(1, 2, 'any ipv4'),
    jump('specified'),
    { label: 'any ipv6' },
    storeNumber(4, STACK, ADDRESS + 12, IPV6_LOOPBACK),
    jump('specified'),
    { label: 'any ipv4' },
    storeNumber(4, STACK, ADDRESS + 12, IPV4_LOOPBACK),
    { label: 'specified' },
  ];
}

/** Jumps where the destination is this host. */
export function jumpIfOwn({ maps }: SteeringParts, label: string): readonly Line[] {
  return [
    load(8, 1, STACK, ADDRESS),
    jumpIf(1, '!=', 0, 'not loopback'),
    load(4, 1, STACK, ADDRESS + 8),
    ...jumpIfIpv4Prefix(1, 2, 'ipv4'),
    jumpIf(1, '!=', 0, 'not loopback'),
    load(4, 1, STACK, ADDRESS + 12),
    jumpIf(1, '==', IPV6_LOOPBACK, label),
    jump('not loopback'),
    { label: 'ipv4' },
    load(1, 1, STACK, ADDRESS + 12),
    jumpIf(1, '==', LOOPBACK_NETWORK, label),
    { label: 'not loopback' },
    loadMap(1, maps.own),
    ...stackAddress(2, ADDRESS),
    callHelper(HELPERS.findElement),
    jumpIf(0, '!=', 0, label),
  ];
}

/** Jumps where r1, of 32 bits, is in a set. */
export function jumpIfNumber(
  { maps }: SteeringParts,
  kind: keyof typeof NUMBER_KINDS,
  label: string,
): readonly Line[] {
  return [
    storeNumber(4, STACK, NUMBER, NUMBER_KINDS[kind]),
    store(4, STACK, NUMBER + 4, 1),
    loadMap(1, maps.numbers),
    ...stackAddress(2, NUMBER),
    callHelper(HELPERS.findElement),
    jumpIf(0, '!=', 0, label),
  ];
}

/** Jumps where the destination is in one of the networks, at the port in a register or at any (0). */
export function jumpIfNetwork(
  { maps }: SteeringParts,
  { kind, port }: { readonly kind: keyof typeof NETWORK_KINDS; readonly port: Operand | 0 },
  label: string,
): readonly Line[] {
  return [
    storeNumber(4, STACK, NETWORK, NETWORK_HEAD_BITS + 128),
    storeNumber(2, STACK, NETWORK + 4, NETWORK_KINDS[kind]),
    port === 0 ? storeNumber(2, STACK, NETWORK + 6, 0) : store(2, STACK, NETWORK + 6, port.register),
    loadMap(1, maps.networks),
    ...stackAddress(2, NETWORK),
    callHelper(HELPERS.findElement),
    jumpIf(0, '!=', 0, label),
  ];
}

/** r0 = r1, read as the kernel's own structure of a socket. */
export function castSocket(types: BtfAnswer): readonly Line[] {
  return [compute(2, '=', types.id('sock')), callKernel(types.id('bpf_rdonly_cast'))];
}

/** Two ends of a program: at `pass` the call goes on, at `deny` it fails with EPERM. */
export function passOrDeny(): readonly Line[] {
  return [{ label: 'deny' }, compute(0, '=', 0), exit(), ...pass()];
}

/** And a third: at `refuse` it fails as if nobody listened. */
export function refuse(): readonly Line[] {
  return [{ label: 'refuse' }, compute(1, '=', -ECONNREFUSED), callHelper(HELPERS.setError), jump('deny')];
}

/** The call goes on. */
export function pass(): readonly Line[] {
  return [{ label: 'pass' }, compute(0, '=', 1), exit()];
}
