import {
  assemble,
  callHelper,
  compute,
  exit,
  jumpIf,
  load,
  loadConstant,
  loadMap,
  register,
  store,
  storeNumber,
  type Line,
} from './bpf-instructions.ts';
import {
  castSocket,
  CONTEXT,
  COOKIE,
  HELPERS,
  IPPROTO_TCP,
  IPV4_LOOPBACK,
  IPV6_LOOPBACK,
  pass,
  SOCKET,
  STACK,
  stackAddress,
  type SteeringParts,
} from './steering-lines.ts';
import { RECORD_PORT, swapPort } from './steering-maps.ts';
import { AF_INET, AF_INET6, SOCKADDR_IN6_BYTES, SOCKADDR_IN_BYTES } from './sockaddr.ts';

/** linux/bpf.h: struct bpf_sockopt. */
const OPTION = { socket: 0, value: 8, valueEnd: 16, level: 24, name: 28, length: 32, result: 36 } as const;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const SO_ORIGINAL_DST = 80;
/** The kernel shows programs no more than a page of a value. */
const PAGE_BYTES = 4096;

/** The program that getpeername(2) runs: a captured connection answers with where it was going (BPF_CGROUP_INET4_GETPEERNAME and INET6). */
export function buildGetpeername(parts: SteeringParts, family: 'ipv4' | 'ipv6'): Buffer<ArrayBuffer> {
  const last = family === 'ipv4' ? CONTEXT.ipv4 : CONTEXT.ipv6 + 12;
  const words = family === 'ipv4' ? [[CONTEXT.ipv4, 12] as const] : IPV6_WORDS;
  return assemble([
    compute(6, '=', register(1)),
    load(4, 1, 6, CONTEXT.protocol),
    jumpIf(1, '!=', IPPROTO_TCP, 'pass'),
    load(4, 1, 6, CONTEXT.port),
    jumpIf(1, '!=', swapPort(parts.ports.outbound), 'pass'),
    load(4, 1, 6, last),
    jumpIf(1, '==', IPV4_LOOPBACK, 'loopback'),
    jumpIf(1, '!=', IPV6_LOOPBACK, 'pass'),
    { label: 'loopback' },
    compute(1, '=', register(6)),
    callHelper(HELPERS.socketCookie),
    ...findRecord(parts),
    ...words.flatMap(([to, from]) => [load(4, 1, 0, from), store(4, 6, to, 1)]),
    load(2, 1, 0, RECORD_PORT),
    store(4, 6, CONTEXT.port, 1),
    ...pass(),
  ]);
}

const IPV6_WORDS = [0, 4, 8, 12].map((at) => [CONTEXT.ipv6 + at, at] as const);

/**
 * The program that getsockopt(2) runs (BPF_CGROUP_GETSOCKOPT): SO_ORIGINAL_DST of a captured connection answers as it does behind an nftables redirection. Everything else
 * is left as it is.
 */
export function buildGetsockopt(parts: SteeringParts): Buffer<ArrayBuffer> {
  return assemble([
    compute(6, '=', register(1)),
    load(4, 1, 6, OPTION.name),
    jumpIf(1, '!=', SO_ORIGINAL_DST, 'other'),
    load(4, 9, 6, OPTION.level),
    jumpIf(9, '==', SOL_IP, 'asked'),
    jumpIf(9, '!=', SOL_IPV6, 'other'),
    { label: 'asked' },
    load(8, 7, 6, OPTION.socket),
    jumpIf(7, '==', 0, 'other'),
    load(4, 1, 7, SOCKET.protocol),
    jumpIf(1, '!=', IPPROTO_TCP, 'other'),
    load(2, 1, 7, SOCKET.peerPort),
    jumpIf(1, '!=', swapPort(parts.ports.outbound), 'other'),
    compute(1, '=', register(7)),
    ...castSocket(parts.types),
    load(8, 0, 0, parts.types.offset('sock_common', 'skc_cookie')),
    ...findRecord(parts, 'other'),
    load(8, 7, 6, OPTION.value),
    load(8, 8, 6, OPTION.valueEnd),
    load(4, 2, 0, 8),
    loadConstant(3, 0xffff0000n),
    jumpIf(9, '==', SOL_IPV6, 'ipv6'),
    jumpIf(2, '!=', register(3), 'other'),
    ...answerIpv4(),
    { label: 'ipv6' },
    jumpIf(2, '==', register(3), 'other'),
    ...answerIpv6(),
    { label: 'other' },
    // A value that is longer than a page is shown in part: by this the kernel keeps its own.
    load(4, 1, 6, OPTION.length),
    jumpIf(1, '<=', PAGE_BYTES, 'pass'),
    compute(1, '=', 0),
    store(4, 6, OPTION.length, 1),
    ...pass(),
  ]);
}

/** The program that the end of a socket runs (BPF_CGROUP_INET_SOCK_RELEASE): its record goes with it. */
export function buildRelease({ maps }: SteeringParts): Buffer<ArrayBuffer> {
  return assemble([
    compute(6, '=', register(1)),
    load(4, 1, 6, SOCKET.protocol),
    jumpIf(1, '!=', IPPROTO_TCP, 'pass'),
    compute(1, '=', register(6)),
    callHelper(HELPERS.socketCookie),
    store(8, STACK, COOKIE, 0),
    loadMap(1, maps.records),
    ...stackAddress(2, COOKIE),
    callHelper(HELPERS.dropElement),
    ...pass(),
  ]);
}

/** r0 = the record of the socket whose cookie is r0 */
function findRecord({ maps }: SteeringParts, orElse = 'pass'): readonly Line[] {
  return [
    store(8, STACK, COOKIE, 0),
    loadMap(1, maps.records),
    ...stackAddress(2, COOKIE),
    callHelper(HELPERS.findElement),
    jumpIf(0, '==', 0, orElse),
  ];
}

/** struct sockaddr_in from the record in r0 to r7, where there is room before r8. */
function answerIpv4(): readonly Line[] {
  return [
    ...requireRoom(SOCKADDR_IN_BYTES),
    storeNumber(2, 7, 0, AF_INET),
    load(2, 1, 0, RECORD_PORT),
    store(2, 7, 2, 1),
    load(4, 1, 0, 12),
    store(4, 7, 4, 1),
    storeNumber(8, 7, 8, 0),
    ...answered(SOCKADDR_IN_BYTES),
  ];
}

/** struct sockaddr_in6, in the same way. */
function answerIpv6(): readonly Line[] {
  return [
    ...requireRoom(SOCKADDR_IN6_BYTES),
    storeNumber(2, 7, 0, AF_INET6),
    load(2, 1, 0, RECORD_PORT),
    store(2, 7, 2, 1),
    storeNumber(4, 7, 4, 0),
    ...[0, 4, 8, 12].flatMap((at) => [load(4, 1, 0, at), store(4, 7, 8 + at, 1)]),
    storeNumber(4, 7, 24, 0),
    ...answered(SOCKADDR_IN6_BYTES),
  ];
}

function requireRoom(bytes: number): readonly Line[] {
  return [compute(1, '=', register(7)), compute(1, '+=', bytes), jumpIf(1, '>', register(8), 'other')];
}

function answered(bytes: number): readonly Line[] {
  return [
    compute(1, '=', bytes),
    store(4, 6, OPTION.length, 1),
    compute(1, '=', 0),
    store(4, 6, OPTION.result, 1),
    compute(0, '=', 1),
    exit(),
  ];
}
