import { createPublicKey } from 'node:crypto';
import { z } from 'zod';
import { PicketError } from '../errors/errors.ts';
import { parseStrictJson } from '../wire/strict-json.ts';
import { parseX509Certificate } from '../wire/x509-certificate.ts';
import type { TrustBundle } from './trust-bundle.ts';
import type { TrustDomain } from './trust-domain.ts';

/** The largest bundle document that is read, in characters. */
export const MAX_BUNDLE_CHARACTERS = 1024 * 1024;

/** The most X.509 authorities that a bundle may have. */
export const MAX_X509_AUTHORITIES = 64;

/** How often to look again where the bundle does not say (SPIFFE_Trust_Domain_and_Bundle.md 4.1.2). */
const DEFAULT_REFRESH_SECONDS = 300;

const MAX_REFRESH_SECONDS = 86_400;

const KNOWN_KEY_TYPES: ReadonlySet<unknown> = new Set(['EC', 'RSA', 'OKP']);

const bundleDocument = z.looseObject({
  /** A sequence beyond 2^53 would be rounded, and then two of them could look equal. */
  spiffe_sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  spiffe_refresh_hint: z.number().int().min(0).default(DEFAULT_REFRESH_SECONDS),
  keys: z
    .array(
      z.looseObject({
        kty: z.unknown().optional(),
        use: z.unknown().optional(),
        x5c: z.unknown().optional(),
      }),
    )
    .max(256),
});

/**
 * Reads a trust bundle in the SPIFFE form of a JWK set (SPIFFE_Trust_Domain_and_Bundle.md 4). Keys of an unknown type or use and
 * X.509 entries without a certificate are ignored; of several certificates in an entry the first counts. Throws
 * `invalid_argument`, reason `bundle_invalid`, for anything else that is out of form, a member that stands twice included.
 */
export function parseTrustBundleJson(text: string, trustDomain: TrustDomain): TrustBundle {
  const document = readDocument(text);
  const x509Authorities: Uint8Array[] = [];
  for (const key of document.keys) {
    if (!KNOWN_KEY_TYPES.has(key.kty) || key.use !== 'x509-svid') continue;
    const first: unknown = Array.isArray(key.x5c) ? key.x5c[0] : undefined;
    if (first !== undefined) x509Authorities.push(readAuthority(first));
  }
  if (x509Authorities.length > MAX_X509_AUTHORITIES)
    throw invalid(`it has more than ${MAX_X509_AUTHORITIES} X.509 authorities`);
  return {
    trustDomain,
    sequence: document.spiffe_sequence,
    refreshHintSeconds: Math.min(Math.max(document.spiffe_refresh_hint, 1), MAX_REFRESH_SECONDS),
    x509Authorities,
  };
}

/** The bundle in the SPIFFE form of a JWK set, as a bundle endpoint serves it. */
export function buildTrustBundleJson(bundle: TrustBundle): string {
  return JSON.stringify({
    spiffe_sequence: bundle.sequence,
    spiffe_refresh_hint: bundle.refreshHintSeconds,
    keys: bundle.x509Authorities.map(buildKey),
  });
}

function buildKey(authority: Uint8Array): Readonly<Record<string, unknown>> {
  const spki = Buffer.from(parseX509Certificate(authority).publicKeySpki);
  return {
    use: 'x509-svid',
    ...createPublicKey({ key: spki, format: 'der', type: 'spki' }).export({ format: 'jwk' }),
    x5c: [Buffer.from(authority).toString('base64')],
  };
}

function readDocument(text: string): z.output<typeof bundleDocument> {
  try {
    return bundleDocument.parse(parseStrictJson(text, { maxCharacters: MAX_BUNDLE_CHARACTERS }));
  } catch (cause) {
    throw invalid('it is not a JWK set in the SPIFFE form', cause);
  }
}

function readAuthority(base64: unknown): Uint8Array {
  if (typeof base64 !== 'string') throw invalid('a certificate is not text');
  const der = Buffer.from(base64, 'base64');
  if (der.toString('base64') !== base64) throw invalid('a certificate is not base64');
  try {
    parseX509Certificate(der);
  } catch (cause) {
    throw invalid('a certificate cannot be read', cause);
  }
  return new Uint8Array(der);
}

function invalid(why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', 'bundle_invalid', `Cannot read the trust bundle: ${why}`, {
    cause,
  });
}
