import { PicketError } from '../errors/errors.ts';
import { DerReader } from './der-reader.ts';
import { constructedContextTag, DER_TAG } from './der-tag.ts';
import { NO_EXTENSIONS, readCertificateExtensions, type CertificateExtensions } from './x509-extensions.ts';

/** The largest certificate that is read, in bytes of DER. */
export const MAX_CERTIFICATE_BYTES = 8192;

/** An AlgorithmIdentifier (RFC 5280 4.1.1.2). */
export interface AlgorithmIdentifier {
  readonly identifier: string;
  /** The parameters as they stand in the input, or undefined when there are none. */
  readonly parameters: Uint8Array | undefined;
}

/** A certificate taken apart (RFC 5280 4.1). Nothing in it is verified yet; arrays are views of `der`. */
export interface ParsedCertificate {
  readonly der: Uint8Array;
  /** The bytes that the signature covers. */
  readonly toBeSigned: Uint8Array;
  /** Lower-case hexadecimal, an even number of digits. */
  readonly serial: string;
  /** The encoded Name. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly isSubjectEmpty: boolean;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly publicKeySpki: Uint8Array;
  readonly extensions: CertificateExtensions;
  readonly signatureAlgorithm: AlgorithmIdentifier;
  readonly signature: Uint8Array;
}

/** Takes an X.509 v3 certificate apart. Throws `invalid_argument`, reasons of `DerReader`, when it is not one in strict DER. */
export function parseX509Certificate(der: Uint8Array): ParsedCertificate {
  if (der.length > MAX_CERTIFICATE_BYTES) throw invalid(`it is longer than ${MAX_CERTIFICATE_BYTES} bytes`);
  const reader = new DerReader(der);
  const certificate = reader.sequence();
  reader.requireEnd();
  const toBeSigned = certificate.element(DER_TAG.sequence).encoded;
  const signatureAlgorithm = certificate.element(DER_TAG.sequence).encoded;
  const signature = certificate.bitString();
  certificate.requireEnd();
  if (signature.unusedBits !== 0) throw invalid('the signature is not a whole number of bytes');
  return {
    der,
    toBeSigned,
    ...readToBeSigned(new DerReader(toBeSigned, 1).sequence(), signatureAlgorithm),
    signatureAlgorithm: readAlgorithmIdentifier(new DerReader(signatureAlgorithm)),
    signature: signature.bytes,
  };
}

/** Reads an AlgorithmIdentifier, the next value of `reader`. */
export function readAlgorithmIdentifier(reader: DerReader): AlgorithmIdentifier {
  const inside = reader.sequence();
  const identifier = inside.objectIdentifier();
  const parameters = inside.nextTag() === undefined ? undefined : inside.any().encoded;
  inside.requireEnd();
  return { identifier, parameters };
}

type SignedPart = Omit<ParsedCertificate, 'der' | 'toBeSigned' | 'signatureAlgorithm' | 'signature'>;

function readToBeSigned(reader: DerReader, outerAlgorithm: Uint8Array): SignedPart {
  if (reader.constructed(constructedContextTag(0)).integer() !== 2n) throw invalid('it is not of version 3');
  const serial = readSerial(reader.integer());
  // An algorithm that only the unsigned part names could be swapped (RFC 5280 4.1.1.2).
  if (Buffer.compare(reader.element(DER_TAG.sequence).encoded, outerAlgorithm) !== 0)
    throw invalid('its two signature algorithms differ');
  const issuer = reader.element(DER_TAG.sequence).encoded;
  const validity = reader.sequence();
  const notBeforeMs = validity.timeMs();
  const notAfterMs = validity.timeMs();
  validity.requireEnd();
  const subject = reader.element(DER_TAG.sequence);
  const publicKeySpki = reader.element(DER_TAG.sequence).encoded;
  const extensions = readOptionalExtensions(reader);
  reader.requireEnd();
  return {
    serial,
    issuer,
    subject: subject.encoded,
    isSubjectEmpty: subject.content.length === 0,
    notBeforeMs,
    notAfterMs,
    publicKeySpki,
    extensions,
  };
}

function readOptionalExtensions(reader: DerReader): CertificateExtensions {
  if (reader.nextTag() === undefined) return NO_EXTENSIONS;
  const outer = reader.constructed(constructedContextTag(3));
  const extensions = readCertificateExtensions(outer.sequence());
  outer.requireEnd();
  return extensions;
}

function readSerial(serial: bigint): string {
  if (serial < 0n || serial >= 1n << 159n)
    throw invalid('its serial number is negative or longer than 20 bytes');
  const digits = serial.toString(16);
  return digits.padStart(digits.length + (digits.length % 2), '0');
}

function invalid(why: string): PicketError {
  return new PicketError('invalid_argument', 'der_invalid', `Cannot read the certificate: ${why}`);
}
