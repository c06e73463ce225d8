import { findAttribute } from './netlink-attribute.ts';

/** What the kernel tells of nftables, as far as it is read here. */
export type NftablesMessage =
  /** Something of a table came or went: the table itself, a chain, a rule, a set. */
  | { readonly kind: 'member'; readonly family: number; readonly table: string }
  /** A transaction has ended. Each has a number, one more than that of the transaction before. */
  | { readonly kind: 'generation'; readonly number: number; readonly author: RulesetAuthor }
  | { readonly kind: 'error'; readonly errorNumber: number };

/** Whose transaction it was. The kernel tells the process; it may have ended since. */
export interface RulesetAuthor {
  readonly pid: number;
  readonly program: string;
}

/** NFPROTO_INET (linux/netfilter.h). */
export const FAMILY_INET = 1;
/** NFNL_SUBSYS_NFTABLES (linux/netfilter/nfnetlink.h). */
const SUBSYSTEM = 10;
/** Of enum nf_tables_msg_types. */
const NEWGEN = 15;
const GETGEN = 16;
/** NEWSETELEM, DELSETELEM. */
const ELEMENTS: readonly number[] = [12, 14];
const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 0x1;

/** NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE and the like all have this number. */
const TABLE = 1;
const GENERATION_ID = 1;
const GENERATION_PID = 2;
const GENERATION_PROGRAM = 3;

/** nlmsghdr 16, nfgenmsg 4. */
const HEADER_BYTES = 16;
const PREFIX_BYTES = 20;

export const GENERATION_QUERY_BYTES = PREFIX_BYTES;

/** Writes the question for the number of the last transaction: nlmsghdr and an empty nfgenmsg. */
export function encodeGenerationQuery(target: Buffer, sequence: number): void {
  target.fill(0, 0, PREFIX_BYTES);
  target.writeUInt32LE(PREFIX_BYTES, 0);
  target.writeUInt16LE((SUBSYSTEM << 8) | GETGEN, 4);
  target.writeUInt16LE(NLM_F_REQUEST, 6);
  target.writeUInt32LE(sequence, 8);
}

/** The messages of a datagram, with the sequence number of each; what is none of these is passed over. */
export function decodeNftablesMessages(
  datagram: Buffer,
): readonly { readonly sequence: number; readonly message: NftablesMessage }[] {
  const messages: { sequence: number; message: NftablesMessage }[] = [];
  for (let at = 0; at + PREFIX_BYTES <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    if (length < PREFIX_BYTES || at + length > datagram.length) break;
    const message = decodeMessage(datagram.subarray(at, at + length));
    if (message !== undefined) messages.push({ sequence: datagram.readUInt32LE(at + 8), message });
    at += (length + 3) & ~3;
  }
  return messages;
}

function decodeMessage(bytes: Buffer): NftablesMessage | undefined {
  const type = bytes.readUInt16LE(4);
  if (type === NLMSG_ERROR) return { kind: 'error', errorNumber: -bytes.readInt32LE(HEADER_BYTES) };
  if (type >> 8 !== SUBSYSTEM) return undefined;
  const attributes = bytes.subarray(PREFIX_BYTES);
  if ((type & 0xff) === NEWGEN) return decodeGeneration(attributes);
  // Elements are what sets are for: they come and go all the time.
  if (ELEMENTS.includes(type & 0xff)) return undefined;
  const table = readText(findAttribute(attributes, TABLE));
  return table === undefined ? undefined : { kind: 'member', family: bytes.readUInt8(HEADER_BYTES), table };
}

function decodeGeneration(attributes: Buffer): NftablesMessage | undefined {
  const number = readNumber(findAttribute(attributes, GENERATION_ID));
  if (number === undefined) return undefined;
  const pid = readNumber(findAttribute(attributes, GENERATION_PID)) ?? 0;
  const program = readText(findAttribute(attributes, GENERATION_PROGRAM)) ?? 'unknown';
  return { kind: 'generation', number, author: { pid, program } };
}

function readNumber(value: Buffer | undefined): number | undefined {
  return value?.length === 4 ? value.readUInt32BE(0) : undefined;
}

/** Ends with a zero byte. */
function readText(value: Buffer | undefined): string | undefined {
  return value === undefined || value.length === 0 ? undefined : value.toString('utf8', 0, value.length - 1);
}
