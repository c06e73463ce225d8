import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { readCertificate, verifyCertificatePath } from '../../shared/spiffe/certificate-path.ts';
import { serverId } from '../../shared/spiffe/reserved-path.ts';
import { verifyPolicyCertificate } from '../../shared/spiffe/policy-signer.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { verifyX509Svid } from '../../shared/spiffe/x509-svid.ts';
import { decodePemBlocks } from '../../shared/wire/pem.ts';
import type { ParsedCertificate } from '../../shared/wire/x509-certificate.ts';
import { readPkcs8Pem } from '../key-manager/encrypted-pkcs8.ts';
import type { KeyManager, SigningKey } from '../key-manager/key-manager.ts';
import { openSoftwareKey } from '../key-manager/software-key.ts';
import { OnlineAuthority } from './online-authority.ts';

/** Files of the folder that `picket ca init` writes for the server. */
export const ONLINE_FILES = {
  bundle: 'bundle.pem',
  intermediate: { certificate: 'intermediate.pem', key: 'intermediate.key' },
  policy: { certificate: 'policy.pem', key: 'policy.key' },
} as const;

export interface OpenAuthorityOptions {
  /** The folder `online` of `picket ca init`. */
  readonly directory: string;
  readonly keys: KeyManager;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly random: (length: number) => Uint8Array;
  readonly log: Log;
}

const DAY_MS = 86_400_000;
/** Below this the log asks for a new intermediate. */
const WARN_BEFORE_MS = 30 * DAY_MS;

/**
 * Opens the online authority. Private keys that still stand in the folder are taken into the key manager and their files removed, once they are known to belong to
 * certificates that hold. Throws `failed_precondition`: `ca_missing` without the folder's files, `ca_key_missing`, `ca_mismatch` when a key does not belong to its
 * certificate, and `ca_untrusted` when a certificate is not of the trust domain's root, has ended, or is not made for its purpose.
 */
export async function openAuthority(options: OpenAuthorityOptions): Promise<OnlineAuthority> {
  const { directory, trustDomain, clock, random } = options;
  const bundle: TrustBundle = {
    trustDomain,
    sequence: 1,
    refreshHintSeconds: 300,
    x509Authorities: await readCertificates(join(directory, ONLINE_FILES.bundle)),
  };
  const certificates = {
    intermediate: await readOne(join(directory, ONLINE_FILES.intermediate.certificate)),
    policy: await readOne(join(directory, ONLINE_FILES.policy.certificate)),
  };
  await requireTrusted('intermediate', () =>
    requireIntermediate(certificates.intermediate, bundle, clock.nowMs()),
  );
  await requireTrusted('policy certificate', () =>
    verifyPolicyCertificate(certificates.policy, bundle, clock.nowMs()),
  );
  const intermediate = await openSigner('intermediate', certificates.intermediate, options);
  const policySigner = await openSigner('policy', certificates.policy, options);
  const authority = new OnlineAuthority({ bundle, intermediate, policySigner, clock, random });
  await requireTrusted('intermediate', async () => await requireIssues(authority, intermediate, clock));
  warnOfEnds(certificates, options);
  return authority;
}

interface Signer {
  readonly certificate: ParsedCertificate;
  readonly key: SigningKey;
}

async function openSigner(
  name: 'intermediate' | 'policy',
  certificate: ParsedCertificate,
  options: OpenAuthorityOptions,
): Promise<Signer> {
  const files = ONLINE_FILES[name];
  const path = join(options.directory, files.key);
  const key = (await takeKeyFile({ name, path, certificate }, options)) ?? (await options.keys.find(name));
  if (key === undefined)
    throw refuse(
      'ca_key_missing',
      `There is no key for ${files.certificate}: neither the file ${files.key} nor one in the key manager`,
    );
  requireMatch(name, key.publicKeySpki, certificate);
  return { certificate, key };
}

/** A wrong key replaces nothing, and the right one is sealed before its file goes, so that a crash between loses nothing. */
async function takeKeyFile(
  file: { readonly name: string; readonly path: string; readonly certificate: ParsedCertificate },
  { keys, log }: OpenAuthorityOptions,
): Promise<SigningKey | undefined> {
  const text = await readIfPresent(file.path);
  if (text === undefined) return undefined;
  const pkcs8 = readPkcs8Pem(text, undefined);
  requireMatch(file.name, openSoftwareKey(file.name, pkcs8).publicKeySpki, file.certificate);
  const key = await keys.importKey(file.name, pkcs8);
  await rm(file.path);
  log.info('ca_key_taken_in', { key: file.name });
  return key;
}

function requireMatch(name: string, publicKeySpki: Uint8Array, certificate: ParsedCertificate): void {
  if (Buffer.from(publicKeySpki).equals(certificate.publicKeySpki)) return;
  throw refuse('ca_mismatch', `The key of ${name} does not belong to its certificate ${name}.pem`);
}

function requireIntermediate(certificate: ParsedCertificate, bundle: TrustBundle, nowMs: number): void {
  verifyCertificatePath([certificate], { bundle, nowMs });
  if (certificate.extensions.basicConstraints?.isAuthority !== true)
    throw refuse('ca_untrusted', 'it is not an authority');
}

/** The proof of everything together: a leaf that every agent would accept. */
async function requireIssues(authority: OnlineAuthority, { key }: Signer, clock: Clock): Promise<void> {
  const bundle = authority.bundle.current;
  const { chain } = await authority.issue({
    spiffeId: serverId(bundle.trustDomain),
    publicKeySpki: key.publicKeySpki,
    ttlSeconds: 60,
    dnsNames: [],
  });
  verifyX509Svid(chain, new Map([[bundle.trustDomain, bundle]]), clock.nowMs());
}

function warnOfEnds(
  certificates: Readonly<Record<string, ParsedCertificate>>,
  { clock, log }: OpenAuthorityOptions,
): void {
  for (const [certificate, { notAfterMs }] of Object.entries(certificates))
    if (notAfterMs - clock.nowMs() < WARN_BEFORE_MS)
      log.warn('ca_certificate_ends_soon', { certificate, ends: new Date(notAfterMs).toISOString() });
}

async function requireTrusted(what: string, verify: () => void | Promise<void>): Promise<void> {
  try {
    await verify();
  } catch (cause) {
    throw new PicketError(
      'failed_precondition',
      'ca_untrusted',
      `Cannot use the ${what}: ${describe(cause)}`,
      { cause },
    );
  }
}

function describe(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

async function readCertificates(path: string): Promise<readonly Uint8Array[]> {
  const text = await readText(path);
  try {
    const certificates = decodePemBlocks('CERTIFICATE', text);
    certificates.forEach(readCertificate);
    return certificates;
  } catch (cause) {
    throw new PicketError('failed_precondition', 'ca_untrusted', `Cannot read ${path}: ${describe(cause)}`, {
      cause,
    });
  }
}

async function readOne(path: string): Promise<ParsedCertificate> {
  const [der, ...others] = await readCertificates(path);
  if (der !== undefined && others.length === 0) return readCertificate(der);
  throw refuse('ca_untrusted', `Cannot use ${path}: there is not exactly one certificate in it`);
}

async function readText(path: string): Promise<string> {
  const text = await readIfPresent(path);
  if (text === undefined)
    throw refuse(
      'ca_missing',
      `${path} is missing: make the certificate authority with picket ca init, and name its folder "online" in the configuration`,
    );
  return text;
}

async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function refuse(reason: string, message: string): PicketError {
  return new PicketError('failed_precondition', reason, message);
}
