import { buildAttribute, buildNest } from './netlink-attribute.ts';

/** A change of one element of a set. */
export interface ElementChange {
  readonly kind: 'add' | 'remove';
  readonly set: string;
  /** The key as the kernel has it: each part of a concatenation padded to 4 bytes. */
  readonly key: Uint8Array;
  /** How long an element that is added stays, in milliseconds; absent: as long as the set has it. */
  readonly timeoutMs?: number;
}

const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
/** NFNL_MSG_BATCH_BEGIN and _END (linux/netfilter/nfnetlink.h). */
const BATCH_BEGIN = 0x10;
const BATCH_END = 0x11;
const SUBSYSTEM = 10;
/** Of enum nf_tables_msg_types. */
const NEW_ELEMENT = 12;
const REMOVE_ELEMENT = 14;
const FAMILY_INET = 1;

/** Attributes of a list of elements, of an element and of data (linux/netfilter/nf_tables.h). */
const LIST = { table: 1, set: 2, elements: 3 } as const;
const LIST_MEMBER = 1;
const ELEMENT = { key: 1, timeout: 4 } as const;
const DATA_VALUE = 1;

const PREFIX_BYTES = 20;

/**
 * One transaction that changes elements of sets of a table of the family inet: all of them or none. It fails where one is to be added that is there, or removed that is not. The last message is answered where all goes well.
 *
 *     batch begin | for each change: list { table, set, elements { member { key { value }, timeout u64be } } } | batch end
 *
 * Each message: length u32 | type u16 | flags u16 | sequence u32 | port id u32 | family u8 | version u8 | resource u16be | attributes
 */
export function encodeElementChanges(
  sequence: number,
  table: string,
  changes: readonly ElementChange[],
): Buffer {
  const lists = changes.map((change) => ({
    type: change.kind === 'add' ? NEW_ELEMENT : REMOVE_ELEMENT,
    set: change.set,
    elements: [buildNest(LIST.elements, [elementOf(change)])],
  }));
  return transaction(sequence, table, lists);
}

/** One transaction that takes all elements out of sets, which is a removal that names none. */
export function encodeFlush(sequence: number, table: string, sets: readonly string[]): Buffer {
  const lists = sets.map((set) => ({ type: REMOVE_ELEMENT, set, elements: [] }));
  return transaction(sequence, table, lists);
}

interface ElementList {
  readonly type: number;
  readonly set: string;
  readonly elements: readonly Buffer[];
}

function transaction(sequence: number, table: string, lists: readonly ElementList[]): Buffer {
  const messages = lists.map(({ type, set, elements }, at) => {
    const flags =
      (type === NEW_ELEMENT ? NLM_F_CREATE | NLM_F_EXCL : 0) | (at === lists.length - 1 ? NLM_F_ACK : 0);
    const head = { type: (SUBSYSTEM << 8) | type, flags, sequence, family: FAMILY_INET, resource: 0 };
    const names = [buildAttribute(LIST.table, textOf(table)), buildAttribute(LIST.set, textOf(set))];
    return message(head, [...names, ...elements]);
  });
  const edge = (type: number): Buffer =>
    message({ type, flags: 0, sequence, family: 0, resource: SUBSYSTEM }, []);
  return Buffer.concat([edge(BATCH_BEGIN), ...messages, edge(BATCH_END)]);
}

function elementOf({ kind, key, timeoutMs }: ElementChange): Buffer {
  const parts = [buildNest(ELEMENT.key, [buildAttribute(DATA_VALUE, key)])];
  if (kind === 'add' && timeoutMs !== undefined) {
    const timeout = Buffer.alloc(8);
    timeout.writeBigUInt64BE(BigInt(timeoutMs), 0);
    parts.push(buildAttribute(ELEMENT.timeout, timeout));
  }
  return buildNest(LIST_MEMBER, parts);
}

function message(
  head: {
    readonly type: number;
    readonly flags: number;
    readonly sequence: number;
    readonly family: number;
    readonly resource: number;
  },
  attributes: readonly Buffer[],
): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(PREFIX_BYTES), ...attributes]);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(head.type, 4);
  bytes.writeUInt16LE(head.flags | NLM_F_REQUEST, 6);
  bytes.writeUInt32LE(head.sequence, 8);
  bytes.writeUInt8(head.family, 16);
  bytes.writeUInt16BE(head.resource, 18);
  return bytes;
}

function textOf(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}
