import { buildAttribute, findAttribute } from './netlink-attribute.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';

/** A rule of policy routing, as far as it is read here. */
export interface RoutingRule {
  readonly family: RoutingFamily;
  readonly priority: number;
  readonly mark: number;
  readonly table: number;
  /** Who made it (`RTPROT_*`). */
  readonly protocol: number;
}

export type RoutingFamily = typeof AF_INET | typeof AF_INET6;

/** What the kernel answers. `errorNumber` is positive; 0: done as asked. */
export type RoutingMessage =
  | { readonly kind: 'rule'; readonly rule: RoutingRule }
  | { readonly kind: 'route'; readonly isLocal: boolean; readonly table: number }
  | { readonly kind: 'end' }
  | { readonly kind: 'result'; readonly errorNumber: number };

/** Of linux/rtnetlink.h and linux/fib_rules.h. */
export const NEW_ROUTE = 24;
export const DELETE_ROUTE = 25;
const GET_ROUTE = 26;
export const NEW_RULE = 32;
export const DELETE_RULE = 33;
const GET_RULE = 34;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP = 0x300;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const RTA_DST = 1;
const RTA_OIF = 4;
const TABLE = 15;
const RTA_MARK = 16;
const FRA_PRIORITY = 6;
const FRA_MARK = 10;
const FRA_MASK = 16;
const FRA_PROTOCOL = 21;
const FR_ACT_TO_TBL = 1;
const RTN_LOCAL = 2;
/** RTM_F_LOOKUP_TABLE, u32: the answer names the table in which it was found. */
const TELL_TABLE = [0, 0x10, 0, 0];
const SCOPE_HOST = 254;
/** The first interface of every network namespace. */
const LOOPBACK_INDEX = 1;

/** nlmsghdr 16, then fib_rule_hdr or rtmsg 12. */
const HEADER_BYTES = 16;
const PREFIX_BYTES = 28;

/** Longest question. */
export const MAX_ROUTING_BYTES = 96;

/** Writes the question for all rules of a family, and returns its length. */
export function encodeRulesQuery(target: Buffer, sequence: number, family: RoutingFamily): number {
  const header = { type: GET_RULE, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence };
  return encode(target, header, { prefix: [family] });
}

/** Writes the question for all routes of a family, of every table, and returns its length. */
export function encodeRoutesQuery(target: Buffer, sequence: number, family: RoutingFamily): number {
  const header = { type: GET_ROUTE, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence };
  return encode(target, header, { prefix: [family] });
}

/** Writes how a rule is made or deleted: what bears the mark is looked up in the table. */
export function encodeRuleChange(
  target: Buffer,
  sequence: number,
  { type, rule }: { readonly type: typeof NEW_RULE | typeof DELETE_RULE; readonly rule: RoutingRule },
): number {
  const { family, priority, mark, table, protocol } = rule;
  return encode(
    target,
    { type, flags: changeFlags(type === NEW_RULE), sequence },
    {
      prefix: [family, 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL],
      attributes: [
        number(FRA_PRIORITY, priority),
        number(FRA_MARK, mark),
        number(FRA_MASK, 0xffff_ffff),
        number(TABLE, table),
        buildAttribute(FRA_PROTOCOL, Uint8Array.of(protocol)),
      ],
    },
  );
}

/** Writes how the one route of a table is made or deleted: everything is this host's own, on loopback. */
export function encodeRouteChange(
  target: Buffer,
  sequence: number,
  change: {
    readonly type: typeof NEW_ROUTE | typeof DELETE_ROUTE;
    readonly family: RoutingFamily;
    readonly table: number;
    readonly protocol: number;
  },
): number {
  const { type, family, table, protocol } = change;
  return encode(
    target,
    { type, flags: changeFlags(type === NEW_ROUTE), sequence },
    {
      prefix: [family, 0, 0, 0, 0, protocol, SCOPE_HOST, RTN_LOCAL],
      attributes: [number(TABLE, table), number(RTA_OIF, LOOPBACK_INDEX)],
    },
  );
}

/** Writes the question where a packet with a mark would go. */
export function encodeRouteQuery(
  target: Buffer,
  sequence: number,
  { to, mark }: { readonly to: Uint8Array; readonly mark: number },
): number {
  const family = to.length === 4 ? AF_INET : AF_INET6;
  return encode(
    target,
    { type: GET_ROUTE, flags: NLM_F_REQUEST, sequence },
    {
      prefix: [family, to.length * 8, 0, 0, 0, 0, 0, 0, ...TELL_TABLE],
      attributes: [buildAttribute(RTA_DST, to), number(RTA_MARK, mark)],
    },
  );
}

/** The messages of a datagram that answer `sequence`; what is none of these is passed over. */
export function decodeRoutingMessages(datagram: Buffer, sequence: number): readonly RoutingMessage[] {
  const messages: RoutingMessage[] = [];
  for (let at = 0; at + HEADER_BYTES <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > datagram.length) break;
    const message = decodeMessage(datagram.subarray(at, at + length));
    if (message !== undefined && datagram.readUInt32LE(at + 8) === sequence) messages.push(message);
    at += (length + 3) & ~3;
  }
  return messages;
}

function decodeMessage(bytes: Buffer): RoutingMessage | undefined {
  const type = bytes.readUInt16LE(4);
  if (type === NLMSG_DONE) return { kind: 'end' };
  if (type === NLMSG_ERROR && bytes.length >= HEADER_BYTES + 4)
    return { kind: 'result', errorNumber: -bytes.readInt32LE(HEADER_BYTES) };
  if (bytes.length < PREFIX_BYTES) return undefined;
  if (type === NEW_RULE) return { kind: 'rule', rule: decodeRule(bytes) };
  if (type !== NEW_ROUTE) return undefined;
  const isLocal = bytes.readUInt8(HEADER_BYTES + 7) === RTN_LOCAL;
  const table = readNumber(bytes.subarray(PREFIX_BYTES), TABLE) ?? bytes.readUInt8(HEADER_BYTES + 4);
  return { kind: 'route', isLocal, table };
}

function decodeRule(bytes: Buffer): RoutingRule {
  const attributes = bytes.subarray(PREFIX_BYTES);
  return {
    family: bytes.readUInt8(HEADER_BYTES) === AF_INET6 ? AF_INET6 : AF_INET,
    priority: readNumber(attributes, FRA_PRIORITY) ?? 0,
    mark: readNumber(attributes, FRA_MARK) ?? 0,
    table: readNumber(attributes, TABLE) ?? bytes.readUInt8(HEADER_BYTES + 4),
    protocol: findAttribute(attributes, FRA_PROTOCOL)?.[0] ?? 0,
  };
}

function changeFlags(isNew: boolean): number {
  return NLM_F_REQUEST | NLM_F_ACK | (isNew ? NLM_F_CREATE | NLM_F_EXCL : 0);
}

/** length u32 | type u16 | flags u16 | sequence u32 | port id u32 | prefix 12 | attributes */
function encode(
  target: Buffer,
  { type, flags, sequence }: { readonly type: number; readonly flags: number; readonly sequence: number },
  body: { readonly prefix: readonly number[]; readonly attributes?: readonly Buffer[] },
): number {
  const attributes = Buffer.concat(body.attributes ?? []);
  const length = PREFIX_BYTES + attributes.length;
  target.fill(0, 0, length);
  target.writeUInt32LE(length, 0);
  target.writeUInt16LE(type, 4);
  target.writeUInt16LE(flags, 6);
  target.writeUInt32LE(sequence, 8);
  target.set(body.prefix, HEADER_BYTES);
  target.set(attributes, PREFIX_BYTES);
  return length;
}

function number(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return buildAttribute(type, bytes);
}

function readNumber(attributes: Buffer, type: number): number | undefined {
  const value = findAttribute(attributes, type);
  return value?.length === 4 ? value.readUInt32LE(0) : undefined;
}
