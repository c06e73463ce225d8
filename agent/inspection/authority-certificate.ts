import { createPrivateKey, createPublicKey, X509Certificate, type KeyObject } from 'node:crypto';
import { ECDSA_WITH_SHA256, ECDSA_WITH_SHA384 } from '../../shared/spiffe/signature-algorithm.ts';
import { DER_TAG } from '../../shared/wire/der-tag.ts';
import { derElement, derObjectIdentifier, derSequence } from '../../shared/wire/der-writer.ts';
import { decodePemBlocks } from '../../shared/wire/pem.ts';
import { parseX509Certificate, type ParsedCertificate } from '../../shared/wire/x509-certificate.ts';
import { EXTENSION, KEY_USAGE, PURPOSE } from '../../shared/wire/x509-extensions.ts';
import {
  parseDnsNameConstraints,
  restrictsSubjects,
  type DnsNameConstraints,
} from '../../shared/wire/x509-name-constraints.ts';
import type { InspectionMaterial } from './inspection.ts';

/** How an authority signs. */
export interface AuthoritySigner {
  readonly key: KeyObject;
  /** For node:crypto. */
  readonly hash: 'sha256' | 'sha384';
  /** AlgorithmIdentifier, encoded. */
  readonly algorithm: Uint8Array;
}

/** An authority that was found good. */
export interface AuthorityCertificate {
  readonly certificate: ParsedCertificate;
  readonly subjectText: string;
  /** When it and all above it that are shown are valid, in milliseconds since 1970. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly signer: AuthoritySigner;
  /** Of it and of those above it: each of them must permit a name. */
  readonly constraints: readonly DnsNameConstraints[];
}

const ANY_PURPOSE = '2.5.29.37.0';
const RSA_WITH_SHA256 = '1.2.840.113549.1.1.11';
const MIN_RSA_BITS = 2048;
const NAMELESS = 'has an empty subject: what it issues would name no issuer (RFC 5280 4.1.2.4)';
const NULL = derElement(DER_TAG.null);

/** Takes the authority apart and checks that it may certify servers now, and that the key is its own. Throws a RangeError that says what is wrong, or as `parseX509Certificate` and `decodePem`. */
export function readAuthorityCertificate(
  { chainPem, keyPem }: Pick<InspectionMaterial, 'chainPem' | 'keyPem'>,
  nowMs: number,
): AuthorityCertificate {
  const chain = decodePemBlocks('CERTIFICATE', chainPem).map((der) => parseX509Certificate(der));
  const [certificate] = chain;
  if (certificate === undefined) throw new RangeError('there is no certificate');
  const life = lifeOf(chain);
  const fault = findFault(certificate) ?? findChainFault(chain) ?? findLifeFault(life, nowMs);
  if (fault !== undefined) throw new RangeError(`its certificate ${fault}`);
  const key = createPrivateKey(keyPem);
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  if (!spki.equals(certificate.publicKeySpki)) throw new RangeError('the key is not that of the certificate');
  return {
    certificate,
    ...life,
    subjectText: new X509Certificate(certificate.der).subject.replaceAll('\n', ', '),
    signer: signerOf(key),
    constraints: chain.flatMap(({ extensions: { nameConstraints } }) =>
      nameConstraints === undefined ? [] : [parseDnsNameConstraints(nameConstraints)],
    ),
  };
}

function findFault({ extensions }: ParsedCertificate): string | undefined {
  const { basicConstraints, keyUsage, extendedKeyUsage, notUnderstood } = extensions;
  if (basicConstraints?.isAuthority !== true) return 'is not that of an authority (basicConstraints)';
  if (keyUsage?.bits.has(KEY_USAGE.keyCertSign) !== true) return 'may not sign certificates (keyUsage)';
  const mayServe = extendedKeyUsage?.some(
    (purpose) => purpose === PURPOSE.serverAuth || purpose === ANY_PURPOSE,
  );
  if (mayServe === false) return 'may not certify servers (extendedKeyUsage)';
  const unknown = notUnderstood.find((identifier) => identifier !== EXTENSION.nameConstraints);
  if (unknown !== undefined) return `is restricted by ${unknown}, which is not known here`;
  return undefined;
}

/** Each must have a name and be issued by the next one, and none may restrict subjects: what is certified here has one of ours. */
function findChainFault(chain: readonly ParsedCertificate[]): string | undefined {
  for (const [i, { der, extensions, isSubjectEmpty }] of chain.entries()) {
    const { nameConstraints } = extensions;
    if (isSubjectEmpty) return `${i === 0 ? '' : `is followed by number ${i + 1}, which `}${NAMELESS}`;
    if (nameConstraints !== undefined && restrictsSubjects(nameConstraints))
      return 'restricts subjects (directoryName in its name constraints, or in those above it)';
    const issuer = chain[i + 1];
    if (issuer !== undefined && !isIssuedBy(der, issuer.der))
      return `is followed by others of which number ${i + 2} did not issue number ${i + 1}`;
  }
  return undefined;
}

function isIssuedBy(der: Uint8Array, issuerDer: Uint8Array): boolean {
  const [certificate, issuer] = [new X509Certificate(der), new X509Certificate(issuerDer)];
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

type Life = Pick<AuthorityCertificate, 'notBeforeMs' | 'notAfterMs'>;

function lifeOf(chain: readonly ParsedCertificate[]): Life {
  return {
    notBeforeMs: Math.max(...chain.map(({ notBeforeMs }) => notBeforeMs)),
    notAfterMs: Math.min(...chain.map(({ notAfterMs }) => notAfterMs)),
  };
}

function findLifeFault({ notBeforeMs, notAfterMs }: Life, nowMs: number): string | undefined {
  if (notBeforeMs > nowMs) return `is not valid before ${new Date(notBeforeMs).toISOString()}`;
  if (notAfterMs <= nowMs) return `has ended ${new Date(notAfterMs).toISOString()}`;
  return undefined;
}

function signerOf(key: KeyObject): AuthoritySigner {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'rsa' && (details?.modulusLength ?? 0) >= MIN_RSA_BITS)
    return { key, hash: 'sha256', algorithm: derSequence(derObjectIdentifier(RSA_WITH_SHA256), NULL) };
  if (type === 'ec' && details?.namedCurve === 'prime256v1')
    return { key, hash: 'sha256', algorithm: derSequence(derObjectIdentifier(ECDSA_WITH_SHA256)) };
  if (type === 'ec' && details?.namedCurve === 'secp384r1')
    return { key, hash: 'sha384', algorithm: derSequence(derObjectIdentifier(ECDSA_WITH_SHA384)) };
  throw new RangeError(`the key must be on P-256 or P-384, or of RSA with ${MIN_RSA_BITS} bits at least`);
}
