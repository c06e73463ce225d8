import { ByteWriter } from './byte-writer.ts';
import { DER_TAG } from './der-tag.ts';

/** A value of identifier `tag` whose content is `parts` one after another. The mirror of `DerReader.element`. */
export function derElement(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const writer = new ByteWriter({ limitBytes: length + 6 }).u8(tag);
  writeLength(writer, length);
  for (const part of parts) writer.bytes(part);
  return writer.toBytes();
}

export function derSequence(...parts: readonly Uint8Array[]): Uint8Array {
  return derElement(DER_TAG.sequence, ...parts);
}

export function derBoolean(value: boolean): Uint8Array {
  return derElement(DER_TAG.boolean, Uint8Array.of(value ? 0xff : 0));
}

/** A signed INTEGER in its shortest form. */
export function derInteger(value: bigint): Uint8Array {
  let width = 1;
  while (BigInt.asIntN(width * 8, value) !== value) width++;
  const hex = BigInt.asUintN(width * 8, value)
    .toString(16)
    .padStart(width * 2, '0');
  return derElement(DER_TAG.integer, Buffer.from(hex, 'hex'));
}

/** A BIT STRING of whole bytes, as keys and signatures are. */
export function derBitString(bytes: Uint8Array): Uint8Array {
  return derElement(DER_TAG.bitString, Uint8Array.of(0), bytes);
}

/** A BIT STRING with named bits, numbered from 0 as in ASN.1: trailing zero bits are left out (X.690 11.2.2). */
export function derNamedBits(bits: readonly number[]): Uint8Array {
  const highest = Math.max(-1, ...bits);
  const bytes = new Uint8Array(Math.ceil((highest + 1) / 8));
  for (const bit of bits) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  const unusedBits = bytes.length * 8 - (highest + 1);
  return derElement(DER_TAG.bitString, Uint8Array.of(unusedBits), bytes);
}

export function derOctetString(bytes: Uint8Array): Uint8Array {
  return derElement(DER_TAG.octetString, bytes);
}

export function derUtf8String(text: string): Uint8Array {
  return derElement(DER_TAG.utf8String, Buffer.from(text));
}

/** An OBJECT IDENTIFIER from its dotted form. A text that is not one is a `RangeError`. */
export function derObjectIdentifier(dotted: string): Uint8Array {
  if (!/^[0-2](\.(0|[1-9]\d*))+$/.test(dotted))
    throw new RangeError(`"${dotted}" is not an object identifier`);
  const [root = 0n, second = 0n, ...others] = dotted.split('.').map(BigInt);
  if (root < 2n && second > 39n) throw new RangeError(`"${dotted}" is not an object identifier`);
  return derElement(DER_TAG.objectIdentifier, ...[root * 40n + second, ...others].map(writeArc));
}

/** A time in whole seconds (rounded down), UTCTime up to 2049 and GeneralizedTime from then on (RFC 5280 4.1.2.5). */
export function derTime(ms: number): Uint8Array {
  const iso = new Date(ms).toISOString();
  if (!/^\d{4}-/.test(iso)) throw new RangeError(`${iso} cannot stand in a certificate`);
  const digits = iso.replace(/[-:T]/g, '').slice(0, 14);
  const isUtcTime = digits >= '1950' && digits < '2050';
  return isUtcTime
    ? derElement(DER_TAG.utcTime, Buffer.from(`${digits.slice(2)}Z`))
    : derElement(DER_TAG.generalizedTime, Buffer.from(`${digits}Z`));
}

function writeLength(writer: ByteWriter, length: number): void {
  if (length < 0x80) writer.u8(length);
  else if (length < 0x100) writer.u8(0x81).u8(length);
  else if (length < 0x1_0000) writer.u8(0x82).u16(length);
  else if (length < 0x100_0000)
    writer
      .u8(0x83)
      .u8(length >> 16)
      .u16(length & 0xffff);
  else writer.u8(0x84).u32(length);
}

function writeArc(arc: bigint): Uint8Array {
  const groups = [Number(arc & 0x7fn)];
  for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) groups.unshift(Number(rest & 0x7fn) | 0x80);
  return Uint8Array.from(groups);
}
