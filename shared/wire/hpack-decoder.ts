import { PicketError } from '../errors/errors.ts';
import { readText } from './hpack-literals.ts';
import { STATIC_TABLE } from './hpack-static-table.ts';
import { HpackTable, sizeOf } from './hpack-table.ts';

/** The fields of one block in their order, as parallel lists. It is used again and again. */
export class FieldList {
  readonly names: string[] = [];
  readonly values: string[] = [];
  /** Where in its block each field begins and ends. */
  readonly starts: number[] = [];
  readonly ends: number[] = [];
  /** Of a field that no intermediary may put into a table (RFC 7541 6.2.3). */
  readonly isNeverIndexed: boolean[] = [];
  /** As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 6.5.2). */
  bytes = 0;

  /** Whether there were more fields than the decoder may keep; the lists do not hold them all then. */
  isTooLong = false;

  get length(): number {
    return this.names.length;
  }

  clear(): void {
    this.names.length = 0;
    this.values.length = 0;
    this.starts.length = 0;
    this.ends.length = 0;
    this.isNeverIndexed.length = 0;
    this.bytes = 0;
    this.isTooLong = false;
  }
}

export interface HpackDecoderLimits {
  /** Of the fields that are kept of a block. */
  readonly listBytes: number;
  readonly fields: number;
}

/** The table's size before anybody has said another (RFC 9113 6.5.2). */
export const DEFAULT_TABLE_BYTES = 4096;

/** Bits of an integer beyond its prefix: what is longer no block has room for. */
const MAX_INTEGER_SHIFT = 21;

/**
 * Follows an encoder through its header blocks (RFC 7541), each from its first byte to its last: every block must be decoded, wanted or not, for the table that it
 * leaves behind. Throws `invalid_argument`, reason `http2_compression_error`, after which the connection cannot go on.
 */
export class HpackDecoder {
  readonly #table = new HpackTable(DEFAULT_TABLE_BYTES);
  readonly #limits: HpackDecoderLimits;
  #allowedTableBytes = DEFAULT_TABLE_BYTES;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  constructor(limits: HpackDecoderLimits) {
    this.#limits = limits;
  }

  /** Whether every block stands for itself: what is cut out of one, or left out, nothing later refers to. */
  get isTableless(): boolean {
    return this.#table.maxBytes === 0;
  }

  /** The encoder has acknowledged a limit for its table: beyond that it may not go any more. It says itself when it has come down to it. */
  allowTableBytes(bytes: number): void {
    this.#allowedTableBytes = bytes;
  }

  /** Reads the block in `bytes` from `start` to `end` into `list`. Returns where its first field begins, after the updates of the table's size. */
  decode(
    bytes: Buffer,
    { start, end }: { readonly start: number; readonly end: number },
    list: FieldList,
  ): number {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    list.clear();
    this.#readSizeUpdates();
    const first = this.#at;
    while (this.#at < end) this.#readField(list);
    return first;
  }

  /** They may stand at the front of a block only (RFC 7541 4.2). */
  #readSizeUpdates(): void {
    while (this.#at < this.#end && (this.#byte() & 0xe0) === 0x20) {
      const bytes = this.#readInteger(0x1f);
      if (bytes > this.#allowedTableBytes) throw malformed('the table is to grow beyond its limit');
      this.#table.resize(bytes);
    }
  }

  #readField(list: FieldList): void {
    const start = this.#at;
    const byte = this.#byte();
    if (byte >= 0x80) {
      const index = this.#readInteger(0x7f);
      this.#add(list, start, {
        name: this.#nameAt(index),
        value: this.#valueAt(index),
        isNeverIndexed: false,
      });
      return;
    }
    if ((byte & 0xe0) === 0x20) throw malformed('the size of the table changes within a block');
    const isIndexed = byte >= 0x40;
    const index = this.#readInteger(isIndexed ? 0x3f : 0x0f);
    const name = index === 0 ? this.#readText() : this.#nameAt(index);
    const value = this.#readText();
    if (isIndexed) this.#table.insert(name, value);
    this.#add(list, start, { name, value, isNeverIndexed: !isIndexed && (byte & 0x10) !== 0 });
  }

  /** Beyond the limits a block is still followed, for the table's sake, but nothing of it is kept. */
  #add(
    list: FieldList,
    start: number,
    field: { readonly name: string; readonly value: string; readonly isNeverIndexed: boolean },
  ): void {
    const { name, value, isNeverIndexed } = field;
    list.bytes += sizeOf(name, value);
    list.isTooLong ||= list.bytes > this.#limits.listBytes || list.length >= this.#limits.fields;
    if (list.isTooLong) return;
    list.names.push(name);
    list.values.push(value);
    list.starts.push(start);
    list.ends.push(this.#at);
    list.isNeverIndexed.push(isNeverIndexed);
  }

  #nameAt(index: number): string {
    const name = STATIC_TABLE[index - 1]?.[0] ?? this.#table.nameAt(index - STATIC_TABLE.length - 1);
    if (name === undefined) throw malformed('an index leads to no field');
    return name;
  }

  #valueAt(index: number): string {
    return STATIC_TABLE[index - 1]?.[1] ?? this.#table.valueAt(index - STATIC_TABLE.length - 1) ?? '';
  }

  /** An integer whose first bits are those of `mask` in the byte at the position (RFC 7541 5.1). */
  #readInteger(mask: number): number {
    let value = this.#byte() & mask;
    this.#at++;
    if (value < mask) return value;
    for (let shift = 0; shift <= MAX_INTEGER_SHIFT; shift += 7) {
      const byte = this.#byte();
      this.#at++;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw malformed('a number is too large');
  }

  #readText(): string {
    const isHuffman = this.#byte() >= 0x80;
    const length = this.#readInteger(0x7f);
    const start = this.#at;
    const end = start + length;
    if (end > this.#end) throw malformed('a text is longer than its block');
    this.#at = end;
    const text = readText(this.#bytes, { start, end }, isHuffman);
    if (text === undefined) throw malformed('a text has no valid Huffman code');
    return text;
  }

  #byte(): number {
    if (this.#at >= this.#end) throw malformed('it ends within a field');
    return this.#bytes[this.#at] ?? 0;
  }
}

function malformed(why: string): PicketError {
  return new PicketError('invalid_argument', 'http2_compression_error', `Cannot read a header block: ${why}`);
}
