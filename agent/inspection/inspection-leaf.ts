import { sign } from 'node:crypto';
import { contextTag, DER_TAG } from '../../shared/wire/der-tag.ts';
import {
  derElement,
  derNamedBits,
  derObjectIdentifier,
  derSequence,
  derUtf8String,
} from '../../shared/wire/der-writer.ts';
import { EXTENSION, KEY_USAGE, PURPOSE } from '../../shared/wire/x509-extensions.ts';
import {
  encodeAuthorityKeyIdentifier,
  encodeExtension,
  encodeSubjectKeyIdentifier,
  encodeToBeSigned,
  sealCertificate,
} from '../../shared/wire/x509-writer.ts';
import type { AuthorityCertificate } from './authority-certificate.ts';

/** What stands in the certificate for a server whose TLS is ended here. */
export interface InspectionLeaf {
  /** The server's name, in lower case. */
  readonly name: string;
  readonly serial: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeySpki: Uint8Array;
}

const DNS_NAME = contextTag(2);
const COMMON_NAME = '2.5.4.3';

/** Whoever looks at the certificate is to see what it is. Names of servers stand in the alternative names alone. */
const SUBJECT = derSequence(
  derElement(
    DER_TAG.set,
    derSequence(derObjectIdentifier(COMMON_NAME), derUtf8String('inspected by Picket')),
  ),
);

/** Good for a server of that name, and for nothing else: it signs nothing, is no client, and names no workload. */
const PROFILE = [
  encodeExtension(EXTENSION.basicConstraints, true, derSequence()),
  encodeExtension(EXTENSION.keyUsage, true, derNamedBits([KEY_USAGE.digitalSignature])),
  encodeExtension(EXTENSION.extendedKeyUsage, false, derSequence(derObjectIdentifier(PURPOSE.serverAuth))),
];

/** The certificate, DER, signed by the authority. */
export function issueInspectionLeaf(leaf: InspectionLeaf, authority: AuthorityCertificate): Uint8Array {
  const { signer, certificate } = authority;
  const { subjectKeyIdentifier } = certificate.extensions;
  const names = derSequence(derElement(DNS_NAME, Buffer.from(leaf.name, 'latin1')));
  const toBeSigned = encodeToBeSigned({
    ...leaf,
    algorithm: signer.algorithm,
    issuer: certificate.subject,
    subject: SUBJECT,
    extensions: [
      ...PROFILE,
      encodeSubjectKeyIdentifier(leaf.publicKeySpki),
      ...(subjectKeyIdentifier === undefined ? [] : [encodeAuthorityKeyIdentifier(subjectKeyIdentifier)]),
      encodeExtension(EXTENSION.subjectAlternativeName, false, names),
    ],
  });
  return sealCertificate(toBeSigned, signer.algorithm, sign(signer.hash, toBeSigned, signer.key));
}
