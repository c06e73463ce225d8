import { createHash, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';
import { wireBundle } from '../../shared/protocol/attestation.ts';
import { serverId } from '../../shared/spiffe/reserved-path.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { fromWireBundle } from '../../shared/spiffe/wire-bundle.ts';
import { verifyX509Svid } from '../../shared/spiffe/x509-svid.ts';
import { decodePemBlocks } from '../../shared/wire/pem.ts';
import { parseX509Certificate } from '../../shared/wire/x509-certificate.ts';
import type { ServerConnection } from './connection.ts';
import { requestJson } from './read-answer.ts';

/** Whom a host believes before it was attested. There is no trust on first use. */
export type FirstTrust =
  /** PEM certificates of the roots, put there by whoever set up the host. */
  | { readonly kind: 'file'; readonly path: string }
  /** SHA-256 of the root's public key (SubjectPublicKeyInfo, DER), as printed with the join token. */
  | { readonly kind: 'pin'; readonly sha256: string };

/** Reads the trust bundle that stands in a file. Throws `failed_precondition`, reason `trust_bundle_invalid`. */
export async function readBundleFile(path: string, trustDomain: TrustDomain): Promise<TrustBundle> {
  try {
    const authorities = decodePemBlocks('CERTIFICATE', await readFile(path, 'utf8'));
    for (const der of authorities) parseX509Certificate(der);
    if (authorities.length === 0) throw new RangeError('There is no certificate in it');
    return buildFirstBundle(trustDomain, authorities);
  } catch (cause) {
    throw new PicketError(
      'failed_precondition',
      'trust_bundle_invalid',
      `Cannot use the trust bundle ${path}`,
      {
        cause,
      },
    );
  }
}

/**
 * Asks a server that is not trusted yet for the bundle and keeps of it only the roots with the pinned key, each signed by itself: whoever answers cannot
 * add one of his own. Throws `unauthenticated`, reason `root_pin_mismatch`, when there is none.
 */
export async function fetchPinnedBundle(
  connection: ServerConnection,
  trust: { readonly sha256: string; readonly trustDomain: TrustDomain },
): Promise<TrustBundle> {
  const request = { method: 'GET', path: '/v1/bundle' } as const;
  const bundle = fromWireBundle(await requestJson(connection, request, wireBundle));
  const pinned = bundle.x509Authorities.filter((der) => isPinnedRoot(der, trust.sha256));
  if (pinned.length === 0)
    throw new PicketError(
      'unauthenticated',
      'root_pin_mismatch',
      `The server does not know a root with the pinned key ${trust.sha256}`,
    );
  return buildFirstBundle(trust.trustDomain, pinned);
}

/** Judges a server's certificates: their path under the bundle, and that the leaf is the server's. Throws `unauthenticated`. */
export function verifyServer(chain: readonly Uint8Array[], bundle: TrustBundle, nowMs: number): void {
  const verified = verifyX509Svid(withoutRoots(chain), new Map([[bundle.trustDomain, bundle]]), nowMs);
  if (verified.spiffeId !== serverId(bundle.trustDomain))
    throw new PicketError(
      'unauthenticated',
      'server_identity_mismatch',
      `Expected the server ${serverId(bundle.trustDomain)}, but ${verified.spiffeId} answered`,
    );
}

/** SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER), lower-case hexadecimal: what a pin names. */
export function computeKeyPin(certificate: Uint8Array): string {
  return createHash('sha256').update(parseX509Certificate(certificate).publicKeySpki).digest('hex');
}

/** Sequence 0: the first bundle that the server sends replaces it. */
function buildFirstBundle(trustDomain: TrustDomain, x509Authorities: readonly Uint8Array[]): TrustBundle {
  return { trustDomain, sequence: 0, refreshHintSeconds: 300, x509Authorities };
}

function isPinnedRoot(der: Uint8Array, sha256: string): boolean {
  if (computeKeyPin(der) !== sha256) return false;
  const certificate = new X509Certificate(der);
  return certificate.verify(certificate.publicKey);
}

/** A TLS stack may append the root that it knows; it is not part of the path that is verified. */
function withoutRoots(chain: readonly Uint8Array[]): readonly Uint8Array[] {
  return chain.filter((der, index) => {
    if (index === 0) return true;
    const { issuer, subject } = parseX509Certificate(der);
    return !Buffer.from(issuer).equals(subject);
  });
}
