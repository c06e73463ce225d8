const TYPE_MASK = 0x3fff;
const NESTED = 0x8000;

/** Bytes of an attribute before its value. */
export const ATTRIBUTE_BYTES = 4;

/** The value of the first attribute of a type: length u16 | type u16 | value, each padded to 4 bytes. */
export function findAttribute(attributes: Buffer | undefined, type: number): Buffer | undefined {
  if (attributes === undefined) return undefined;
  for (let at = 0; at + ATTRIBUTE_BYTES <= attributes.length;) {
    const length = attributes.readUInt16LE(at);
    if (length < ATTRIBUTE_BYTES || at + length > attributes.length) return undefined;
    if ((attributes.readUInt16LE(at + 2) & TYPE_MASK) === type)
      return attributes.subarray(at + ATTRIBUTE_BYTES, at + length);
    at += (length + 3) & ~3;
  }
  return undefined;
}

/** An attribute with its padding. */
export function buildAttribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc((ATTRIBUTE_BYTES + value.length + 3) & ~3);
  bytes.writeUInt16LE(ATTRIBUTE_BYTES + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, ATTRIBUTE_BYTES);
  return bytes;
}

/** An attribute of attributes. */
export function buildNest(type: number, attributes: readonly Buffer[]): Buffer {
  return buildAttribute(type | NESTED, Buffer.concat(attributes));
}
