import { hash } from 'node:crypto';
import { constructedContextTag, contextTag } from './der-tag.ts';
import {
  derBitString,
  derBoolean,
  derElement,
  derInteger,
  derObjectIdentifier,
  derOctetString,
  derSequence,
  derTime,
} from './der-writer.ts';
import { EXTENSION } from './x509-extensions.ts';

/** What every certificate says (RFC 5280 4.1.2). The parts are encoded already. */
export interface CertificateContent {
  /** At most 20 bytes, the first bit zero, not all zero (RFC 5280 4.1.2.2). */
  readonly serial: Uint8Array;
  /** AlgorithmIdentifier of the signature. */
  readonly algorithm: Uint8Array;
  /** Name of whoever signs. */
  readonly issuer: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Name. */
  readonly subject: Uint8Array;
  readonly publicKeySpki: Uint8Array;
  readonly extensions: readonly Uint8Array[];
}

const KEY_IDENTIFIER = contextTag(0);
const EXTENSIONS = constructedContextTag(3);
const VERSION_3 = derElement(constructedContextTag(0), derInteger(2n));

/** A TBSCertificate of version 3 (RFC 5280 4.1). */
export function encodeToBeSigned(content: CertificateContent): Uint8Array {
  return derSequence(
    VERSION_3,
    derInteger(BigInt(`0x${Buffer.from(content.serial).toString('hex')}`)),
    content.algorithm,
    content.issuer,
    derSequence(derTime(content.notBeforeMs), derTime(content.notAfterMs)),
    content.subject,
    content.publicKeySpki,
    derElement(EXTENSIONS, derSequence(...content.extensions)),
  );
}

/** The certificate of a TBSCertificate and its signature, by the AlgorithmIdentifier that stands in it. */
export function sealCertificate(
  toBeSigned: Uint8Array,
  algorithm: Uint8Array,
  signature: Uint8Array,
): Uint8Array {
  return derSequence(toBeSigned, algorithm, derBitString(signature));
}

/** An extension with its encoded value. */
export function encodeExtension(identifier: string, isCritical: boolean, value: Uint8Array): Uint8Array {
  return derSequence(
    derObjectIdentifier(identifier),
    ...(isCritical ? [derBoolean(true)] : []),
    derOctetString(value),
  );
}

/** The subject key identifier of a public key. */
export function encodeSubjectKeyIdentifier(publicKeySpki: Uint8Array): Uint8Array {
  return encodeExtension(
    EXTENSION.subjectKeyIdentifier,
    false,
    derOctetString(keyIdentifierOf(publicKeySpki)),
  );
}

/** The authority key identifier: the subject key identifier of whoever signs. */
export function encodeAuthorityKeyIdentifier(keyIdentifier: Uint8Array): Uint8Array {
  return encodeExtension(
    EXTENSION.authorityKeyIdentifier,
    false,
    derSequence(derElement(KEY_IDENTIFIER, keyIdentifier)),
  );
}

/** A key identifier: the first 20 bytes of SHA-256 over the whole SubjectPublicKeyInfo (RFC 7093 2, method 4, shortened). */
export function keyIdentifierOf(publicKeySpki: Uint8Array): Uint8Array {
  return hash('sha256', publicKeySpki, 'buffer').subarray(0, 20);
}
