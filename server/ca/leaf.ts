import { encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { ECDSA_WITH_SHA256 } from '../../shared/spiffe/signature-algorithm.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { contextTag } from '../../shared/wire/der-tag.ts';
import { derElement, derNamedBits, derObjectIdentifier, derSequence } from '../../shared/wire/der-writer.ts';
import { EXTENSION, KEY_USAGE, PURPOSE } from '../../shared/wire/x509-extensions.ts';
import {
  encodeAuthorityKeyIdentifier,
  encodeExtension,
  encodeSubjectKeyIdentifier,
  encodeToBeSigned,
  sealCertificate,
} from '../../shared/wire/x509-writer.ts';

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
const ALGORITHM = derSequence(derObjectIdentifier(ECDSA_WITH_SHA256));
const EMPTY_NAME = derSequence();

/** The parts that are the same in every leaf. */
const CONSTRAINTS = encodeExtension(EXTENSION.basicConstraints, true, derSequence());
const USAGE = encodeExtension(EXTENSION.keyUsage, true, derNamedBits([KEY_USAGE.digitalSignature]));
const PURPOSES = encodeExtension(
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
  return encodeToBeSigned({
    ...content,
    algorithm: ALGORITHM,
    issuer: content.issuer.subject,
    subject: EMPTY_NAME,
    extensions: [
      CONSTRAINTS,
      USAGE,
      PURPOSES,
      encodeSubjectKeyIdentifier(content.publicKeySpki),
      encodeAuthorityKeyIdentifier(content.issuer.keyIdentifier),
      encodeExtension(EXTENSION.subjectAlternativeName, true, derSequence(...names)),
    ],
  });
}

/** The certificate of a TBSCertificate and its signature (ECDSA with SHA-256, DER). */
export function sealLeaf(toBeSigned: Uint8Array, signature: Uint8Array): Uint8Array {
  return sealCertificate(toBeSigned, ALGORITHM, signature);
}
