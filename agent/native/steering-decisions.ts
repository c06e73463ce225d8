import {
  assemble,
  callHelper,
  compute,
  jump,
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
  ADDRESS,
  castSocket,
  CONTEXT,
  COOKIE,
  HELPERS,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_LOOPBACK,
  IPV6_LOOPBACK,
  jumpIfIpv4Prefix,
  jumpIfNetwork,
  jumpIfNumber,
  jumpIfOwn,
  pass,
  passOrDeny,
  readIpv4Destination,
  readIpv6Destination,
  refuse,
  SOCKET,
  STACK,
  stackAddress,
  type SteeringParts,
} from './steering-lines.ts';
import { RECORD_BYTES, RECORD_PORT, RECORD_PROCESS, RECORD_USER, swapPort } from './steering-maps.ts';

type Family = 'ipv4' | 'ipv6';

const RECORD = COOKIE - RECORD_BYTES;

/**
 * The program that a connect(2) of a TCP or UDP socket runs (attach types BPF_CGROUP_INET4_CONNECT and INET6). It decides as the nftables rules do, in their order (`steerOutbound` of
 * steer-rules.ts). What is captured goes to the agent's listener on loopback, and where it was going is written down under the socket's cookie. Without a record
 * there is no connection. A socket that is bound to an interface does not reach loopback: it is refused.
 *
 * r6 the context, r7 the destination's port as in a packet, r8 the socket
 */
export function buildConnect(parts: SteeringParts, family: Family): Buffer<ArrayBuffer> {
  return assemble([
    ...begin(parts, family),
    load(4, 1, 6, CONTEXT.protocol),
    jumpIf(1, '==', IPPROTO_UDP, 'udp'),
    jumpIf(1, '!=', IPPROTO_TCP, 'pass'),
    ...tcp(parts, family),
    { label: 'udp' },
    ...udp(parts),
    ...refuse(),
    ...passOrDeny(),
  ]);
}

/** The program that a sendmsg(2) to an address runs on a UDP socket (BPF_CGROUP_UDP4_SENDMSG and UDP6). */
export function buildSendmsg(parts: SteeringParts, family: Family): Buffer<ArrayBuffer> {
  const decision = parts.passesUdp ? pass() : [...udp(parts), ...passOrDeny()];
  return assemble([...begin(parts, family), ...decision]);
}

/** Sockets of other network namespaces and of the agent itself pass. */
function begin({ netnsCookie, mark }: SteeringParts, family: Family): readonly Line[] {
  return [
    compute(6, '=', register(1)),
    callHelper(HELPERS.netnsCookie),
    loadConstant(1, netnsCookie),
    jumpIf(0, '!=', register(1), 'pass'),
    load(8, 8, 6, CONTEXT.socket),
    load(4, 1, 8, SOCKET.mark),
    loadConstant(2, BigInt(mark)),
    jumpIf(1, '==', register(2), 'pass'),
    load(4, 7, 6, CONTEXT.port),
    ...(family === 'ipv4' ? readIpv4Destination() : readIpv6Destination()),
  ];
}

function tcp(parts: SteeringParts, family: Family): readonly Line[] {
  const { types, ports } = parts;
  const ownPorts = [ports.outbound, ports.inbound].map(swapPort);
  return [
    compute(1, '=', register(8)),
    ...castSocket(types),
    load(4, 1, 0, types.offset('sock', 'sk_uid')),
    ...jumpIfNumber(parts, 'user', 'pass'),
    // The ports in the sets are as in a packet, too.
    ...jumpIfOwn(parts, 'own'),
    compute(1, '=', register(7)),
    ...jumpIfNumber(parts, 'outboundPort', 'pass'),
    ...jumpIfNetwork(parts, { kind: 'tcp', port: 0 }, 'pass'),
    ...jumpIfNetwork(parts, { kind: 'tcp', port: register(7) }, 'pass'),
    jump('steer'),
    { label: 'own' },
    ...ownPorts.map((port) => jumpIf(7, '==', port, 'refuse')),
    compute(1, '=', register(7)),
    ...jumpIfNumber(parts, 'localPort', 'steer'),
    jump('pass'),
    { label: 'steer' },
    load(4, 1, 8, SOCKET.interface),
    jumpIf(1, '!=', 0, 'refuse'),
    ...writeRecord(parts),
    jumpIf(0, '!=', 0, 'refuse'),
    ...(family === 'ipv4' ? redirectIpv4() : redirectIpv6()),
    compute(1, '=', swapPort(ports.outbound)),
    store(4, 6, CONTEXT.port, 1),
    jump('pass'),
  ];
}

/** What leaves the host as UDP leaves by permission alone; nothing is captured. */
function udp(parts: SteeringParts): readonly Line[] {
  if (parts.passesUdp) return [jump('pass')];
  return [
    ...jumpIfOwn(parts, 'pass').map(renameForUdp),
    ...jumpIfNetwork(parts, { kind: 'udp', port: register(7) }, 'pass'),
    jump('deny'),
  ];
}

/** A label stands once in a program. */
function renameForUdp(line: Line): Line {
  if ('label' in line) return { label: `${line.label}, udp` };
  return line.jump === undefined || line.jump === 'pass' ? line : { ...line, jump: `${line.jump}, udp` };
}

/** r0 is 0 where it was written. */
function writeRecord({ maps }: SteeringParts): readonly Line[] {
  return [
    compute(1, '=', register(6)),
    callHelper(HELPERS.socketCookie),
    store(8, STACK, COOKIE, 0),
    load(8, 1, STACK, ADDRESS),
    store(8, STACK, RECORD, 1),
    load(8, 1, STACK, ADDRESS + 8),
    store(8, STACK, RECORD + 8, 1),
    storeNumber(8, STACK, RECORD + RECORD_PORT, 0),
    store(2, STACK, RECORD + RECORD_PORT, 7),
    callHelper(HELPERS.currentProcess),
    store(8, STACK, RECORD + RECORD_PROCESS, 0),
    callHelper(HELPERS.currentUser),
    store(8, STACK, RECORD + RECORD_USER, 0),
    loadMap(1, maps.records),
    ...stackAddress(2, COOKIE),
    ...stackAddress(3, RECORD),
    compute(4, '=', 0),
    callHelper(HELPERS.putElement),
  ];
}

function redirectIpv4(): readonly Line[] {
  return [compute(1, '=', IPV4_LOOPBACK), store(4, 6, CONTEXT.ipv4, 1)];
}

/** An IPv6 socket that goes to IPv4 stays with it: it may be bound to an address of IPv4. */
function redirectIpv6(): readonly Line[] {
  const write = (at: number): Line => store(4, 6, CONTEXT.ipv6 + at, 1);
  return [
    compute(3, '=', IPV6_LOOPBACK),
    load(8, 1, STACK, ADDRESS),
    jumpIf(1, '!=', 0, 'to ipv6'),
    load(4, 1, STACK, ADDRESS + 8),
    compute(3, '=', IPV4_LOOPBACK),
    ...jumpIfIpv4Prefix(1, 2, 'third'),
    compute(3, '=', IPV6_LOOPBACK),
    { label: 'to ipv6' },
    compute(1, '=', 0),
    { label: 'third' },
    write(8),
    compute(1, '=', 0),
    write(0),
    write(4),
    compute(1, '=', register(3)),
    write(12),
  ];
}
