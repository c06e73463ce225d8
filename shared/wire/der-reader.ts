import { PicketError } from '../errors/errors.ts';
import { ByteReader } from './byte-reader.ts';
import { DER_TAG } from './der-tag.ts';

/** The largest structure that is read, in bytes. */
export const MAX_DER_BYTES = 64 * 1024;

/** How deep constructed values may be nested. */
export const MAX_DER_DEPTH = 16;

/** A value with its identifier; both arrays are views of the input. */
export interface DerElement {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Identifier, length and content as they stand in the input, which is what signatures cover. */
  readonly encoded: Uint8Array;
}

/** A BIT STRING: `unusedBits` (0 to 7) at the end of the last byte carry nothing and are zero. */
export interface DerBitString {
  readonly bytes: Uint8Array;
  readonly unusedBits: number;
}

/**
 * Reads DER (X.690 10) value by value, strictly: one-byte identifiers, definite lengths in their shortest form, nothing
 * beyond `MAX_DER_BYTES` and `MAX_DER_DEPTH`. Every method throws `invalid_argument` with reason `der_invalid`, or
 * `truncated` and `trailing_bytes` from the bytes underneath.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #reader: ByteReader;
  readonly #depth: number;

  constructor(bytes: Uint8Array, depth = 0) {
    if (bytes.length > MAX_DER_BYTES) throw invalid(`it is longer than ${MAX_DER_BYTES} bytes`);
    if (depth > MAX_DER_DEPTH) throw invalid(`it is nested deeper than ${MAX_DER_DEPTH} levels`);
    this.#bytes = bytes;
    this.#reader = new ByteReader(bytes);
    this.#depth = depth;
  }

  /** The identifier of the next value, or undefined at the end. */
  nextTag(): number | undefined {
    return this.#reader.remaining === 0 ? undefined : this.#reader.peekU8();
  }

  /** The next value, whatever it is. */
  any(): DerElement {
    const start = this.#reader.offset;
    const tag = this.#reader.u8();
    if (tag === 0 || (tag & 0x1f) === 0x1f) throw invalid(`identifier ${tag} is not supported`);
    const content = this.#reader.bytes(this.#length());
    return { tag, content, encoded: this.#bytes.subarray(start, this.#reader.offset) };
  }

  /** The next value, which must have this identifier. */
  element(tag: number): DerElement {
    const next = this.nextTag();
    if (next !== tag) throw invalid(`expected identifier ${tag}, found ${next ?? 'the end'}`);
    return this.any();
  }

  /** The next value if it has this identifier. */
  optional(tag: number): DerElement | undefined {
    return this.nextTag() === tag ? this.any() : undefined;
  }

  /** The inside of the next value, which must be constructed with this identifier. */
  constructed(tag: number): DerReader {
    return new DerReader(this.element(tag).content, this.#depth + 1);
  }

  sequence(): DerReader {
    return this.constructed(DER_TAG.sequence);
  }

  /** A signed INTEGER of any size. */
  integer(): bigint {
    const { content } = this.element(DER_TAG.integer);
    const [first, second] = content;
    if (first === undefined) throw invalid('an INTEGER is empty');
    if (second !== undefined && (first === 0 || first === 0xff) && first >> 7 === second >> 7)
      throw invalid('an INTEGER is not in its shortest form');
    return BigInt.asIntN(content.length * 8, BigInt(`0x${Buffer.from(content).toString('hex')}`));
  }

  boolean(): boolean {
    const { content } = this.element(DER_TAG.boolean);
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff))
      throw invalid('a BOOLEAN is neither 00 nor FF');
    return content[0] === 0xff;
  }

  octetString(): Uint8Array {
    return this.element(DER_TAG.octetString).content;
  }

  bitString(): DerBitString {
    const reader = new ByteReader(this.element(DER_TAG.bitString).content);
    const unusedBits = reader.u8();
    const bytes = reader.rest();
    const last = bytes.at(-1);
    if (unusedBits > 7 || (last === undefined && unusedBits > 0)) throw invalid('a BIT STRING is malformed');
    if (last !== undefined && (last & ((1 << unusedBits) - 1)) !== 0)
      throw invalid('unused bits of a BIT STRING are set');
    return { bytes, unusedBits };
  }

  /** An OBJECT IDENTIFIER in dotted form. */
  objectIdentifier(): string {
    return readObjectIdentifier(this.element(DER_TAG.objectIdentifier).content);
  }

  /** A UTCTime or GeneralizedTime in the form of RFC 5280 4.1.2.5 (seconds present, `Z`), in milliseconds since 1970. */
  timeMs(): number {
    const { tag, content } = this.any();
    const text = Buffer.from(content).toString('latin1');
    if (tag === DER_TAG.utcTime) return readTime(text.slice(0, 2) < '50' ? `20${text}` : `19${text}`);
    if (tag === DER_TAG.generalizedTime) return readTime(text);
    throw invalid('expected a time');
  }

  /** Throws reason `trailing_bytes` unless everything was read. */
  requireEnd(): void {
    this.#reader.requireEnd();
  }

  #length(): number {
    const first = this.#reader.u8();
    if (first < 0x80) return first;
    const width = first & 0x7f;
    if (width === 0 || width > 4) throw invalid('a length is indefinite or too large');
    let length = 0;
    for (let index = 0; index < width; index++) length = length * 256 + this.#reader.u8();
    if (length < 0x80 || length < 256 ** (width - 1)) throw invalid('a length is not in its shortest form');
    return length;
  }
}

/** An arc of a UUID-based identifier (2.25) has 128 bits: 19 groups of 7. */
const MAX_ARC_BYTES = 19;

/** Seven groups of 7 bits fit a double exactly. */
const MAX_NUMBER_ARC_BYTES = 7;

function readObjectIdentifier(content: Uint8Array): string {
  let dotted = '';
  for (let start = 0, end = 0; end < content.length; start = ++end) {
    while ((content[end] ?? 0) >= 0x80) end++;
    const arc = readArc(content.subarray(start, end + 1));
    dotted +=
      start > 0 ? `.${arc}` : arc < 80 ? `${arc < 40 ? 0 : 1}.${Number(arc) % 40}` : `2.${BigInt(arc) - 80n}`;
  }
  if (dotted === '' || (content.at(-1) ?? 0) >= 0x80)
    throw invalid('an OBJECT IDENTIFIER is empty or cut off');
  return dotted;
}

function readArc(groups: Uint8Array): number | bigint {
  if (groups[0] === 0x80) throw invalid('an arc of an OBJECT IDENTIFIER is not in its shortest form');
  if (groups.length > MAX_ARC_BYTES) throw invalid('an arc of an OBJECT IDENTIFIER is too long');
  if (groups.length > MAX_NUMBER_ARC_BYTES)
    return groups.reduce((arc, group) => (arc << 7n) | BigInt(group & 0x7f), 0n);
  return groups.reduce((arc, group) => arc * 128 + (group & 0x7f), 0);
}

function readTime(text: string): number {
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  if (parts === null) throw invalid('a time is not in the form of RFC 5280');
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1).map(Number);
  const time = new Date(0);
  time.setUTCFullYear(year, month - 1, day);
  time.setUTCHours(hour, minute, second);
  // A day or hour that does not exist rolls over: it is not read back as it was written.
  if (time.toISOString().replace(/[-:T]|\.000/g, '') !== text) throw invalid('a time does not exist');
  return time.getTime();
}

function invalid(why: string): PicketError {
  return new PicketError('invalid_argument', 'der_invalid', `Cannot read DER: ${why}`);
}
