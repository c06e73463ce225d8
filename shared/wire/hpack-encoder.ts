import { STATIC_INDEX_BY_NAME } from './hpack-static-table.ts';

/** One field of a block to be written. The texts have one byte for each character. */
export interface EncodedField {
  readonly name: string;
  readonly value: string;
  /** Told to whoever passes it on: keep it out of every table (RFC 7541 7.1.3). */
  readonly isNeverIndexed?: boolean;
}

/** The update of the table's size to 0, which may stand at the front of a block: the reader then keeps nothing of it, nor of later ones (RFC 7541 6.3). */
export const EMPTY_TABLE = 0x20;

/** No number takes more bytes than this: those of texts are far below 2^28. */
const MAX_INTEGER_BYTES = 5;

/** A header block whose fields are all literals without indexing: it stands for itself, whatever table the reader has (RFC 7541 6.2.2). */
export function encodeFields(fields: readonly EncodedField[]): Buffer {
  let room = 0;
  for (const { name, value } of fields) room += name.length + value.length + 3 * MAX_INTEGER_BYTES;
  const block = Buffer.allocUnsafe(room);
  let at = 0;
  for (const field of fields) at = writeField(block, at, field);
  return block.subarray(0, at);
}

function writeField(
  block: Buffer,
  start: number,
  { name, value, isNeverIndexed = false }: EncodedField,
): number {
  const index = STATIC_INDEX_BY_NAME.get(name) ?? 0;
  let at = writeInteger(block, start, { bits: isNeverIndexed ? 0x10 : 0, mask: 0x0f, value: index });
  if (index === 0) at = writeText(block, at, name);
  return writeText(block, at, value);
}

function writeText(block: Buffer, start: number, text: string): number {
  const at = writeInteger(block, start, { bits: 0, mask: 0x7f, value: text.length });
  return at + block.write(text, at, 'latin1');
}

function writeInteger(
  block: Buffer,
  start: number,
  number: { readonly bits: number; readonly mask: number; readonly value: number },
): number {
  const { bits, mask, value } = number;
  let at = start;
  if (value < mask) {
    block[at] = bits | value;
    return at + 1;
  }
  block[at++] = bits | mask;
  let rest = value - mask;
  for (; rest >= 0x80; rest >>>= 7) block[at++] = (rest & 0x7f) | 0x80;
  block[at++] = rest;
  return at;
}
