/** The identifier octets of ASN.1 that X.509 uses (X.680 8.4, X.690 8.1.2). */
export const DER_TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The identifier of context tag `number` (0 to 30) around a primitive value, as in `[2] IMPLICIT IA5String`. */
export function contextTag(number: number): number {
  return 0x80 | number;
}

/** The identifier of context tag `number` (0 to 30) around a constructed value, as in `[3] EXPLICIT`. */
export function constructedContextTag(number: number): number {
  return 0xa0 | number;
}
