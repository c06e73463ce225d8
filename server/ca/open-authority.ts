import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { readCertificate, verifyCertificatePath } from '../../shared/spiffe/certificate-path.ts';
import { verifyPolicyCertificate } from '../../shared/spiffe/policy-signer.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { decodePemBlock, decodePemBlocks } from '../../shared/wire/pem.ts';
import type { ParsedCertificate } from '../../shared/wire/x509-certificate.ts';
import { readPkcs8Pem } from '../key-manager/encrypted-pkcs8.ts';
import type { KeyManager, SigningKey } from '../key-manager/key-manager.ts';
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
 * Opens the online authority. Private keys that still stand in the folder are taken into the key manager and their files removed. Throws
 * `failed_precondition`: `ca_missing` without the folder's files, `ca_key_missing`, `ca_mismatch` when a key does not belong to its certificate, and
 * `ca_untrusted` when a certificate is not of the trust domain's root, or has ended.
 */
export async function openAuthority(options: OpenAuthorityOptions): Promise<OnlineAuthority> {
  const { directory, trustDomain, clock, log } = options;
  const authorities = decodePemBlocks('CERTIFICATE', await readText(join(directory, ONLINE_FILES.bundle)));
  const bundle: TrustBundle = {
    trustDomain,
    sequence: 1,
    refreshHintSeconds: 300,
    x509Authorities: authorities,
  };
  const intermediate = await openSigner('intermediate', ONLINE_FILES.intermediate, options);
  const policySigner = await openSigner('policy', ONLINE_FILES.policy, options);
  requireTrusted('intermediate', () => requireIntermediate(intermediate.certificate, bundle, clock.nowMs()));
  requireTrusted('policy certificate', () =>
    verifyPolicyCertificate(policySigner.certificate, bundle, clock.nowMs()),
  );
  for (const [name, { certificate }] of Object.entries({ intermediate, policySigner }))
    if (certificate.notAfterMs - clock.nowMs() < WARN_BEFORE_MS)
      log.warn('ca_certificate_ends_soon', {
        certificate: name,
        ends: new Date(certificate.notAfterMs).toISOString(),
      });
  return new OnlineAuthority({ bundle, intermediate, policySigner, clock, random: options.random });
}

interface Signer {
  readonly certificate: ParsedCertificate;
  readonly key: SigningKey;
}

async function openSigner(
  name: string,
  files: { readonly certificate: string; readonly key: string },
  options: OpenAuthorityOptions,
): Promise<Signer> {
  const text = await readText(join(options.directory, files.certificate));
  const certificate = readCertificate(decodePemBlock('CERTIFICATE', text));
  const key =
    (await takeKeyFile(name, join(options.directory, files.key), options)) ?? (await options.keys.find(name));
  if (key === undefined)
    throw refuse(
      'ca_key_missing',
      `There is no key for ${files.certificate}: neither the file ${files.key} nor one in the key manager`,
    );
  if (!Buffer.from(key.publicKeySpki).equals(certificate.publicKeySpki))
    throw refuse('ca_mismatch', `The key of ${name} does not belong to the certificate ${files.certificate}`);
  return { certificate, key };
}

/** The key is sealed before its file goes, so that a crash between loses nothing. */
async function takeKeyFile(
  name: string,
  path: string,
  options: OpenAuthorityOptions,
): Promise<SigningKey | undefined> {
  const text = await readIfPresent(path);
  if (text === undefined) return undefined;
  const key = await options.keys.importKey(name, readPkcs8Pem(text, undefined));
  await rm(path);
  options.log.info('ca_key_taken_in', { key: name });
  return key;
}

/** The path that every leaf's verification will walk. */
function requireIntermediate(certificate: ParsedCertificate, bundle: TrustBundle, nowMs: number): void {
  verifyCertificatePath([certificate], { bundle, nowMs });
  if (certificate.extensions.basicConstraints?.isAuthority !== true)
    throw refuse('ca_untrusted', 'The intermediate is not an authority');
}

function requireTrusted(what: string, verify: () => void): void {
  try {
    verify();
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
