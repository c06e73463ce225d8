// First, because @peculiar/x509 asks for it while it is loaded: tests take the library from here.
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import { createHash, webcrypto } from 'node:crypto';
import { derNamedBits } from '../../shared/wire/der-writer.ts';

export { x509 };

/** Certificates of any profile, right or wrong, made by a library that is not ours. */

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** Keys as WebCrypto holds them. */
export type TestKeys = webcrypto.CryptoKeyPair;

/** A certificate, its private key and who it belongs to. */
export interface TestCertificate {
  readonly der: Uint8Array;
  readonly certificate: x509.X509Certificate;
  readonly keys: TestKeys;
}

export interface TestProfile {
  readonly subject?: string;
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly isNamesCritical?: boolean;
  /** Undefined leaves basicConstraints out. */
  readonly isAuthority?: boolean | undefined;
  readonly pathLength?: number;
  /** Bits as in `USAGE`; undefined leaves keyUsage out. */
  readonly keyUsage?: readonly number[] | undefined;
  readonly isKeyUsageCritical?: boolean;
  readonly purposes?: readonly string[];
  readonly otherExtensions?: readonly x509.Extension[];
  readonly keys?: TestKeys;
}

export const TEST_NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const DAY_MS = 86_400_000;

/** Bits of KeyUsage by their number (RFC 5280 4.2.1.3). */
export const USAGE = {
  digitalSignature: 0,
  keyEncipherment: 2,
  keyAgreement: 4,
  keyCertSign: 5,
  cRLSign: 6,
} as const;

/** The profile of an authority of `trustDomain` that stands every check. */
export function authorityProfile(trustDomain: string): TestProfile {
  return {
    subject: `O=${trustDomain}, CN=authority`,
    uris: [`spiffe://${trustDomain}`],
    isAuthority: true,
    keyUsage: [USAGE.keyCertSign, USAGE.cRLSign],
  };
}

/** The profile of a leaf that stands every check. */
export function leafProfile(spiffeId: string): TestProfile {
  return {
    subject: 'O=SPIFFE',
    uris: [spiffeId],
    isAuthority: false,
    keyUsage: [USAGE.digitalSignature],
    purposes: [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
  };
}

/** Makes a certificate of `profile`, signed by `issuer` or by itself, valid from a day before `TEST_NOW_MS` to a day after. */
export async function makeCertificate(
  profile: TestProfile,
  issuer?: TestCertificate,
): Promise<TestCertificate> {
  const keys = profile.keys ?? (await makeKeys());
  const subject = profile.subject ?? 'O=SPIFFE';
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: createHash('sha256')
      .update(await spkiOf(keys))
      .digest('hex')
      .slice(0, 30),
    subject,
    issuer: issuer?.certificate.subject ?? subject,
    notBefore: new Date(profile.notBeforeMs ?? TEST_NOW_MS - DAY_MS),
    notAfter: new Date(profile.notAfterMs ?? TEST_NOW_MS + DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    extensions: extensionsOf(profile),
  });
  return { der: new Uint8Array(certificate.rawData), certificate, keys };
}

/** A fresh P-256 key pair. */
export async function makeKeys(): Promise<TestKeys> {
  return await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function spkiOf(keys: TestKeys): Promise<Buffer> {
  return Buffer.from(await webcrypto.subtle.exportKey('spki', keys.publicKey));
}

function extensionsOf(profile: TestProfile): x509.Extension[] {
  const names: x509.JsonGeneralName[] = [
    ...(profile.uris ?? []).map((value) => ({ type: 'url' as const, value })),
    ...(profile.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value })),
  ];
  const extensions: x509.Extension[] = [];
  if (profile.isAuthority !== undefined)
    extensions.push(new x509.BasicConstraintsExtension(profile.isAuthority, profile.pathLength, true));
  if (profile.keyUsage !== undefined)
    extensions.push(keyUsageOf(profile.keyUsage, profile.isKeyUsageCritical ?? true));
  if (profile.purposes !== undefined)
    extensions.push(new x509.ExtendedKeyUsageExtension([...profile.purposes]));
  if (names.length > 0)
    extensions.push(new x509.SubjectAlternativeNameExtension(names, profile.isNamesCritical ?? false));
  return [...extensions, ...(profile.otherExtensions ?? [])];
}

function keyUsageOf(bits: readonly number[], isCritical: boolean): x509.Extension {
  return new x509.Extension('2.5.29.15', isCritical, derNamedBits(bits));
}
