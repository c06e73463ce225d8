import { findAttribute } from './netlink-attribute.ts';

/** A packet that a rule logged. */
export interface LoggedPacket {
  /** Whole, from the IP header on, unless it was too long for the log. */
  readonly packet: Buffer;
  /** The user whose socket sent it; undefined where no socket is behind it. */
  readonly uid: number | undefined;
  /** The interface by which it was to leave; 0 where there is none. */
  readonly interfaceIndex: number;
  /** One more than that of the packet before in this group: what is missing between two was lost. */
  readonly sequence: number | undefined;
}

/** What the kernel tells of a group. `errorNumber` is positive, 0 for a yes. */
export type PacketLogMessage =
  | { readonly kind: 'packet'; readonly logged: LoggedPacket }
  | { readonly kind: 'answer'; readonly sequence: number; readonly errorNumber: number };

const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
/** NFNL_SUBSYS_ULOG above NFULNL_MSG_PACKET and NFULNL_MSG_CONFIG (linux/netfilter/nfnetlink_log.h). */
const ULOG_PACKET = 0x0400;
const ULOG_CONFIG = 0x0401;

/** enum nfulnl_attr_type */
const OUT_INTERFACE = 5;
const PAYLOAD = 9;
const UID = 11;
const SEQUENCE = 12;

/** enum nfulnl_attr_config */
const CONFIG = { command: 1, mode: 2, threshold: 5, flags: 6 } as const;
const COMMAND_BIND = 1;
const COPY_PACKET = 2;
const FLAG_SEQUENCE = 1;
/** All that one attribute of netlink can hold. */
const COPY_BYTES = 0xffff;

/** nlmsghdr 16, nfgenmsg 4. */
const HEADER_BYTES = 16;
const PREFIX_BYTES = 20;

export const PACKET_LOG_COMMAND_BYTES = PREFIX_BYTES + 8 + 12 + 8 + 8;

/**
 * Writes the order to send the packets of a group to the socket that it comes from: whole, one at a time, and numbered.
 *
 *     length u32 | type u16 | flags u16 | sequence u32 | port id u32 | family u8 | version u8 | group u16be
 *     command { bind u8 } | mode { bytes u32be, copy u8, 0 } | threshold { 1 u32be } | flags { u16be }
 */
export function encodePacketLogCommand(target: Buffer, sequence: number, group: number): void {
  target.fill(0, 0, PACKET_LOG_COMMAND_BYTES);
  target.writeUInt32LE(PACKET_LOG_COMMAND_BYTES, 0);
  target.writeUInt16LE(ULOG_CONFIG, 4);
  target.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK, 6);
  target.writeUInt32LE(sequence, 8);
  target.writeUInt16BE(group, 18);
  let at = PREFIX_BYTES;
  const attribute = (type: number, bytes: number): number => {
    target.writeUInt16LE(4 + bytes, at);
    target.writeUInt16LE(type, at + 2);
    const value = at + 4;
    at += (4 + bytes + 3) & ~3;
    return value;
  };
  target.writeUInt8(COMMAND_BIND, attribute(CONFIG.command, 1));
  const mode = attribute(CONFIG.mode, 6);
  target.writeUInt32BE(COPY_BYTES, mode);
  target.writeUInt8(COPY_PACKET, mode + 4);
  target.writeUInt32BE(1, attribute(CONFIG.threshold, 4));
  target.writeUInt16BE(FLAG_SEQUENCE, attribute(CONFIG.flags, 2));
}

/** The messages of a datagram; what is none of these, or cut short, is passed over. */
export function decodePacketLogMessages(datagram: Buffer): readonly PacketLogMessage[] {
  const messages: PacketLogMessage[] = [];
  for (let at = 0; at + PREFIX_BYTES <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    if (length < PREFIX_BYTES || at + length > datagram.length) break;
    const message = decodeMessage(datagram.subarray(at, at + length));
    if (message !== undefined) messages.push(message);
    at += (length + 3) & ~3;
  }
  return messages;
}

function decodeMessage(bytes: Buffer): PacketLogMessage | undefined {
  const type = bytes.readUInt16LE(4);
  if (type === NLMSG_ERROR)
    return {
      kind: 'answer',
      sequence: bytes.readUInt32LE(8),
      errorNumber: -bytes.readInt32LE(HEADER_BYTES),
    };
  if (type !== ULOG_PACKET) return undefined;
  const attributes = bytes.subarray(PREFIX_BYTES);
  const packet = findAttribute(attributes, PAYLOAD);
  if (packet === undefined) return undefined;
  return {
    kind: 'packet',
    logged: {
      packet,
      uid: numberIn(attributes, UID),
      interfaceIndex: numberIn(attributes, OUT_INTERFACE) ?? 0,
      sequence: numberIn(attributes, SEQUENCE),
    },
  };
}

function numberIn(attributes: Buffer, type: number): number | undefined {
  const value = findAttribute(attributes, type);
  return value?.length === 4 ? value.readUInt32BE(0) : undefined;
}
