// First: @peculiar/x509 asks for it while it is loaded.
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import { createPrivateKey, createPublicKey, randomBytes, webcrypto } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import { CODE_SIGNING } from '../../shared/spiffe/policy-signer.ts';
import { policySignerId } from '../../shared/spiffe/reserved-path.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { decodePemBlock, encodePem } from '../../shared/wire/pem.ts';
import { generatePkcs8 } from '../key-manager/software-key.ts';
import { CLOCK_SKEW_MS } from './ca.ts';
import { keyIdentifierOf } from '../../shared/wire/x509-writer.ts';

/** The offline root: it signs the online intermediate and the policy key's certificate, and is then put away. */
export interface RootAuthority {
  readonly certificatePem: string;
  readonly privateKeyPkcs8: Uint8Array;
}

/** What the server runs with. */
export interface OnlineMaterial {
  readonly intermediatePem: string;
  readonly intermediateKeyPkcs8: Uint8Array;
  readonly policyPem: string;
  readonly policyKeyPkcs8: Uint8Array;
}

export interface Lives {
  readonly rootSeconds: number;
  readonly intermediateSeconds: number;
  readonly policySeconds: number;
}

const YEAR_SECONDS = 365 * 86_400;

/** Unless an operator names others. */
export const DEFAULT_LIVES: Lives = {
  rootSeconds: 10 * YEAR_SECONDS,
  intermediateSeconds: YEAR_SECONDS,
  policySeconds: 3 * YEAR_SECONDS,
};

const P384 = { name: 'ECDSA', namedCurve: 'P-384' } as const;
const SIGN_WITH_ROOT = { name: 'ECDSA', hash: 'SHA-384' } as const;
const SERIAL_BYTES = 16;

/** Makes the root of a trust domain: P-384, path length 1, named by the trust domain's SPIFFE ID (X509-SVID.md 3.2). */
export async function createRoot(
  trustDomain: TrustDomain,
  options: { readonly nowMs: number; readonly lifeSeconds: number },
): Promise<RootAuthority> {
  const keys = await webcrypto.subtle.generateKey(P384, true, ['sign', 'verify']);
  const spki = await webcrypto.subtle.exportKey('spki', keys.publicKey);
  const name = nameOf(trustDomain, 'root', spki);
  const certificate = await x509.X509CertificateGenerator.create({
    ...validityOf(options),
    serialNumber: newSerial(),
    subject: name,
    issuer: name,
    signingAlgorithm: SIGN_WITH_ROOT,
    publicKey: keys.publicKey,
    signingKey: keys.privateKey,
    extensions: authorityExtensions(trustDomain, { spki, pathLength: 1 }),
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    certificatePem: encodePem('CERTIFICATE', new Uint8Array(certificate.rawData)),
    privateKeyPkcs8: new Uint8Array(pkcs8),
  };
}

/**
 * Makes a new intermediate (P-256, path length 0) and a new policy key with its certificate, both signed by the root and never outliving it. Throws
 * `failed_precondition`: `root_key_mismatch` when the key is not that of the certificate, `root_key_refused` when it is not on P-384, `root_foreign` when the
 * root is not of this trust domain, or `root_expired`.
 */
export async function createOnlineMaterial(
  root: RootAuthority,
  options: { readonly trustDomain: TrustDomain; readonly nowMs: number; readonly lives: Lives },
): Promise<OnlineMaterial> {
  const { trustDomain, nowMs, lives } = options;
  const signer = await openRoot(root, { trustDomain, nowMs });
  const intermediateKey = await generatePkcs8();
  const policyKey = await generatePkcs8();
  const intermediate = await signer.sign(intermediateKey, {
    life: { nowMs, lifeSeconds: lives.intermediateSeconds },
    role: 'intermediate',
    extensionsOf: (spki) => authorityExtensions(trustDomain, { spki, pathLength: 0 }),
  });
  const policy = await signer.sign(policyKey, {
    life: { nowMs, lifeSeconds: lives.policySeconds },
    role: 'policy signer',
    extensionsOf: (spki) => policyExtensions(trustDomain, spki),
  });
  return {
    intermediatePem: intermediate,
    intermediateKeyPkcs8: intermediateKey,
    policyPem: policy,
    policyKeyPkcs8: policyKey,
  };
}

interface SignRequest {
  readonly life: { readonly nowMs: number; readonly lifeSeconds: number };
  readonly role: string;
  readonly extensionsOf: (spki: ArrayBuffer) => x509.Extension[];
}

interface RootSigner {
  /** Signs a certificate for the public half of a P-256 key; PEM. */
  sign(pkcs8: Uint8Array, request: SignRequest): Promise<string>;
}

async function openRoot(
  root: RootAuthority,
  { trustDomain, nowMs }: { readonly trustDomain: TrustDomain; readonly nowMs: number },
): Promise<RootSigner> {
  const certificate = new x509.X509Certificate(
    Buffer.from(decodePemBlock('CERTIFICATE', root.certificatePem)),
  );
  requireUsable(certificate, root, nowMs);
  requireRootOf(trustDomain, certificate);
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    Buffer.from(root.privateKeyPkcs8),
    P384,
    false,
    ['sign'],
  );
  const authorityKey = new x509.AuthorityKeyIdentifierExtension(
    hexOf(keyIdentifierOf(new Uint8Array(certificate.publicKey.rawData))),
  );
  return {
    sign: async (pkcs8, { life, role, extensionsOf }) => {
      const spki = new Uint8Array(createPublicKey(keyObjectOf(pkcs8)).export({ format: 'der', type: 'spki' }))
        .buffer;
      const signed = await x509.X509CertificateGenerator.create({
        ...validityOf(life, certificate.notAfter.getTime()),
        serialNumber: newSerial(),
        subject: nameOf(trustDomain, role, spki),
        issuer: certificate.subject,
        signingAlgorithm: SIGN_WITH_ROOT,
        publicKey: new x509.PublicKey(spki),
        signingKey,
        extensions: [...extensionsOf(spki), authorityKey],
      });
      return encodePem('CERTIFICATE', new Uint8Array(signed.rawData));
    },
  };
}

function requireUsable(certificate: x509.X509Certificate, root: RootAuthority, nowMs: number): void {
  const key = createPublicKey(keyObjectOf(root.privateKeyPkcs8));
  if (key.asymmetricKeyDetails?.namedCurve !== 'secp384r1')
    throw refuse('root_key_refused', 'The root’s private key is not on P-384, as picket ca init makes it');
  if (!key.export({ format: 'der', type: 'spki' }).equals(Buffer.from(certificate.publicKey.rawData)))
    throw refuse('root_key_mismatch', 'The root’s private key does not belong to its certificate');
  if (nowMs >= certificate.notAfter.getTime())
    throw refuse(
      'root_expired',
      `The root ended at ${certificate.notAfter.toISOString()}: make a new one with picket ca init`,
    );
}

/** Agents accept nothing of an authority that names another trust domain: better to see it now. */
function requireRootOf(trustDomain: TrustDomain, certificate: x509.X509Certificate): void {
  const names = certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.toJSON() ?? [];
  const isOwn = names.length === 1 && names[0]?.value === `spiffe://${trustDomain}`;
  if (isOwn && certificate.getExtension(x509.BasicConstraintsExtension)?.ca === true) return;
  throw refuse('root_foreign', `The certificate is not that of the root of ${trustDomain}`);
}

function authorityExtensions(
  trustDomain: TrustDomain,
  { spki, pathLength }: { readonly spki: ArrayBuffer; readonly pathLength: number },
): x509.Extension[] {
  return [
    new x509.BasicConstraintsExtension(true, pathLength, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    new x509.SubjectKeyIdentifierExtension(hexOf(keyIdentifierOf(new Uint8Array(spki)))),
    new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${trustDomain}` }]),
  ];
}

function policyExtensions(trustDomain: TrustDomain, spki: ArrayBuffer): x509.Extension[] {
  return [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension([CODE_SIGNING], true),
    new x509.SubjectKeyIdentifierExtension(hexOf(keyIdentifierOf(new Uint8Array(spki)))),
    new x509.SubjectAlternativeNameExtension([{ type: 'url', value: policySignerId(trustDomain) }]),
  ];
}

/** A life from five minutes before now, in whole seconds; nothing outlives what signed it. */
function validityOf(
  { nowMs, lifeSeconds }: { readonly nowMs: number; readonly lifeSeconds: number },
  atMostMs = Number.POSITIVE_INFINITY,
): { readonly notBefore: Date; readonly notAfter: Date } {
  const wholeMs = Math.floor(nowMs / 1000) * 1000;
  return {
    notBefore: new Date(wholeMs - CLOCK_SKEW_MS),
    notAfter: new Date(Math.min(wholeMs + lifeSeconds * 1000, atMostMs)),
  };
}

/** Names carry a part of the key's hash, so that an old and a new authority of the same role never have the same name. */
function nameOf(trustDomain: string, role: string, spki: ArrayBuffer): string {
  const mark = hexOf(keyIdentifierOf(new Uint8Array(spki))).slice(0, 8);
  return `O=${trustDomain}, CN=Picket ${role} ${mark}`;
}

function newSerial(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return hexOf(bytes);
}

function keyObjectOf(pkcs8: Uint8Array): ReturnType<typeof createPrivateKey> {
  return createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' });
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function refuse(reason: string, message: string): PicketError {
  return new PicketError('failed_precondition', reason, message);
}
