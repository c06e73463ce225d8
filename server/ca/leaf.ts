import { hash } from 'node:crypto';
import { ECDSA_WITH_SHA256 } from '../../shared/spiffe/signature-algorithm.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { constructedContextTag, contextTag } from '../../shared/wire/der-tag.ts';
import {
  derBitString,
  derBoolean,
  derElement,
  derInteger,
  derNamedBits,
  derObjectIdentifier,
  derOctetString,
  derSequence,
  derTime,
} from '../../shared/wire/der-writer.ts';
import { encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { EXTENSION, KEY_USAGE, PURPOSE } from '../../shared/wire/x509-extensions.ts';

/** What stands in a leaf beside its profile, which is always that of X509-SVID.md 4. */
export interface LeafContent {
  readonly spiffeId: SpiffeId;
  readonly dnsNames: readonly string[];
  /** IPv4 and IPv6 addresses in text form. */
  readonly ipAddresses: readonly string[];
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeySpki: Uint8Array;
  /** At most 20 bytes, the first bit zero, not all zero (RFC 5280 4.1.2.2). */
  readonly serial: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** The encoded Name and the subject key identifier of the certificate that signs. */
  readonly issuer: { readonly subject: Uint8Array; readonly keyIdentifier: Uint8Array };
}

const URI = contextTag(6);
const DNS_NAME = contextTag(2);
const IP_ADDRESS = contextTag(7);
const KEY_IDENTIFIER = contextTag(0);
const EXTENSIONS = constructedContextTag(3);
const VERSION = derElement(constructedContextTag(0), derInteger(2n));
const ALGORITHM = derSequence(derObjectIdentifier(ECDSA_WITH_SHA256));
const EMPTY_NAME = derSequence();

/** The parts that are the same in every leaf. */
const CONSTRAINTS = extension(EXTENSION.basicConstraints, true, derSequence());
const USAGE = extension(EXTENSION.keyUsage, true, derNamedBits([KEY_USAGE.digitalSignature]));
const PURPOSES = extension(
  EXTENSION.extendedKeyUsage,
  false,
  derSequence(derObjectIdentifier(PURPOSE.serverAuth), derObjectIdentifier(PURPOSE.clientAuth)),
);

/** The TBSCertificate of an X509-SVID (RFC 5280 4.1): its subject is empty, its one URI is the SPIFFE ID, and its alternative names are critical. */
export function encodeLeaf(content: LeafContent): Uint8Array {
  const names = [
    derElement(URI, Buffer.from(content.spiffeId)),
    ...content.dnsNames.map((name) => derElement(DNS_NAME, Buffer.from(name, 'latin1'))),
    ...content.ipAddresses.map((address) => derElement(IP_ADDRESS, encodeIpAddress(address))),
  ];
  return derSequence(
    VERSION,
    derInteger(BigInt(`0x${Buffer.from(content.serial).toString('hex')}`)),
    ALGORITHM,
    content.issuer.subject,
    derSequence(derTime(content.notBeforeMs), derTime(content.notAfterMs)),
    EMPTY_NAME,
    content.publicKeySpki,
    derElement(
      EXTENSIONS,
      derSequence(
        CONSTRAINTS,
        USAGE,
        PURPOSES,
        extension(
          EXTENSION.subjectKeyIdentifier,
          false,
          derOctetString(keyIdentifierOf(content.publicKeySpki)),
        ),
        extension(
          EXTENSION.authorityKeyIdentifier,
          false,
          derSequence(derElement(KEY_IDENTIFIER, content.issuer.keyIdentifier)),
        ),
        extension(EXTENSION.subjectAlternativeName, true, derSequence(...names)),
      ),
    ),
  );
}

/** The certificate of a TBSCertificate and its signature (ECDSA with SHA-256, DER). */
export function sealCertificate(toBeSigned: Uint8Array, signature: Uint8Array): Uint8Array {
  return derSequence(toBeSigned, ALGORITHM, derBitString(signature));
}

/** A key identifier: the first 20 bytes of SHA-256 over the whole SubjectPublicKeyInfo (RFC 7093 2, method 4, shortened). */
export function keyIdentifierOf(publicKeySpki: Uint8Array): Uint8Array {
  return hash('sha256', publicKeySpki, 'buffer').subarray(0, 20);
}

function extension(identifier: string, isCritical: boolean, value: Uint8Array): Uint8Array {
  return derSequence(
    derObjectIdentifier(identifier),
    ...(isCritical ? [derBoolean(true)] : []),
    derOctetString(value),
  );
}
