const TYPE_MASK = 0x3fff;

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
