import { PicketError } from '../errors/errors.ts';
import { DerReader } from './der-reader.ts';
import { constructedContextTag, contextTag, DER_TAG } from './der-tag.ts';

/** The certificate extensions that Picket reads and writes (RFC 5280 4.2). */
export const EXTENSION = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAlternativeName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
} as const;

/** Bits of KeyUsage by their number (RFC 5280 4.2.1.3). */
export const KEY_USAGE = { digitalSignature: 0, keyCertSign: 5, cRLSign: 6 } as const;

/** Purposes of ExtendedKeyUsage (RFC 5280 4.2.1.12). */
export const PURPOSE = { serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2' } as const;

export interface BasicConstraints {
  readonly isAuthority: boolean;
  /** How many authorities may stand between this one and a leaf; undefined is no limit. */
  readonly pathLength: number | undefined;
}

export interface KeyUsage {
  readonly isCritical: boolean;
  /** Numbers of the bits that are set. */
  readonly bits: ReadonlySet<number>;
}

export interface SubjectAlternativeName {
  readonly isCritical: boolean;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
}

/** What the extensions of one certificate say. Absent ones are undefined. */
export interface CertificateExtensions {
  readonly basicConstraints: BasicConstraints | undefined;
  readonly keyUsage: KeyUsage | undefined;
  /** Object identifiers of the purposes. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly subjectAlternativeName: SubjectAlternativeName | undefined;
  readonly subjectKeyIdentifier: Uint8Array | undefined;
  /** The value of the name constraints, which is read by `parseDnsNameConstraints` alone: they stand in `notUnderstood` too. */
  readonly nameConstraints: Uint8Array | undefined;
  /** Extensions that restrict the certificate in a way that is not understood here: whoever relies on it must refuse it. */
  readonly notUnderstood: readonly string[];
}

interface RawExtension {
  readonly isCritical: boolean;
  readonly value: Uint8Array;
}

/** Reads `Extensions`, a SEQUENCE (RFC 5280 4.1). Throws `invalid_argument` as `DerReader` does, and `der_invalid` for an extension that stands twice. */
export function readCertificateExtensions(extensions: DerReader): CertificateExtensions {
  const raw = readRawExtensions(extensions);
  const read = <T>(
    identifier: string,
    parse: (reader: DerReader, isCritical: boolean) => T,
  ): T | undefined => {
    const extension = raw.get(identifier);
    if (extension === undefined) return undefined;
    raw.delete(identifier);
    const reader = new DerReader(extension.value);
    const value = parse(reader, extension.isCritical);
    reader.requireEnd();
    return value;
  };
  return {
    basicConstraints: read(EXTENSION.basicConstraints, readBasicConstraints),
    keyUsage: read(EXTENSION.keyUsage, readKeyUsage),
    extendedKeyUsage: read(EXTENSION.extendedKeyUsage, readPurposes),
    subjectAlternativeName: read(EXTENSION.subjectAlternativeName, readAlternativeNames),
    subjectKeyIdentifier: read(EXTENSION.subjectKeyIdentifier, (reader) => reader.octetString()),
    nameConstraints: raw.get(EXTENSION.nameConstraints)?.value,
    notUnderstood: Array.from(raw)
      .filter(([identifier, { isCritical }]) => isCritical || identifier === EXTENSION.nameConstraints)
      .map(([identifier]) => identifier),
  };
}

/** What a certificate without extensions says. */
export const NO_EXTENSIONS: CertificateExtensions = {
  basicConstraints: undefined,
  keyUsage: undefined,
  extendedKeyUsage: undefined,
  subjectAlternativeName: undefined,
  subjectKeyIdentifier: undefined,
  nameConstraints: undefined,
  notUnderstood: [],
};

function readRawExtensions(extensions: DerReader): Map<string, RawExtension> {
  const raw = new Map<string, RawExtension>();
  while (extensions.nextTag() !== undefined) {
    const extension = extensions.sequence();
    const identifier = extension.objectIdentifier();
    const isCritical = extension.nextTag() === DER_TAG.boolean && extension.boolean();
    const value = extension.octetString();
    extension.requireEnd();
    if (raw.has(identifier)) throw invalid(`extension ${identifier} stands twice`);
    raw.set(identifier, { isCritical, value });
  }
  return raw;
}

function readBasicConstraints(reader: DerReader): BasicConstraints {
  const inside = reader.sequence();
  const isAuthority = inside.nextTag() === DER_TAG.boolean && inside.boolean();
  const pathLength = inside.nextTag() === DER_TAG.integer ? Number(inside.integer()) : undefined;
  inside.requireEnd();
  if (pathLength !== undefined && (!isAuthority || pathLength < 0))
    throw invalid('a path length is out of place');
  return { isAuthority, pathLength };
}

function readKeyUsage(reader: DerReader, isCritical: boolean): KeyUsage {
  const { bytes, unusedBits } = reader.bitString();
  const bits = new Set<number>();
  for (let bit = 0; bit < bytes.length * 8 - unusedBits; bit++)
    if (((bytes[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0) bits.add(bit);
  return { isCritical, bits };
}

function readPurposes(reader: DerReader): readonly string[] {
  const inside = reader.sequence();
  const purposes: string[] = [];
  do purposes.push(inside.objectIdentifier());
  while (inside.nextTag() !== undefined);
  return purposes;
}

const URI = contextTag(6);
const DNS_NAME = contextTag(2);

/** Every form of GeneralName (RFC 5280 4.2.1.6); what is not one must not hide beside a name that counts. */
const GENERAL_NAMES: ReadonlySet<number> = new Set([
  constructedContextTag(0),
  contextTag(1),
  DNS_NAME,
  constructedContextTag(3),
  constructedContextTag(4),
  constructedContextTag(5),
  URI,
  contextTag(7),
  contextTag(8),
]);

function readAlternativeNames(reader: DerReader, isCritical: boolean): SubjectAlternativeName {
  const inside = reader.sequence();
  const uris: string[] = [];
  const dnsNames: string[] = [];
  do {
    const { tag, content } = inside.any();
    if (!GENERAL_NAMES.has(tag)) throw invalid(`${tag} is not the identifier of a general name`);
    if (tag === URI) uris.push(readIa5String(content));
    if (tag === DNS_NAME) dnsNames.push(readIa5String(content));
  } while (inside.nextTag() !== undefined);
  return { isCritical, uris, dnsNames };
}

function readIa5String(content: Uint8Array): string {
  if (content.some((byte) => byte < 0x20 || byte > 0x7e))
    throw invalid('a name holds a byte that cannot be printed');
  return Buffer.from(content).toString('latin1');
}

function invalid(why: string): PicketError {
  return new PicketError('invalid_argument', 'der_invalid', `Cannot read certificate extensions: ${why}`);
}
