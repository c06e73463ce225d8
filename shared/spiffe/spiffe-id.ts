import { PicketError } from '../errors/errors.ts';
import { parseTrustDomain, type TrustDomain } from './trust-domain.ts';

declare const spiffeIdBrand: unique symbol;

/** A valid SPIFFE ID in its one spelling: `spiffe://`, lower-case trust domain, path without trailing slash (SPIFFE-ID.md 2). */
export type SpiffeId = string & { readonly [spiffeIdBrand]: true };

/** The longest SPIFFE ID that must be accepted (SPIFFE-ID.md 2.3). */
export const MAX_SPIFFE_ID_BYTES = 2048;

const SCHEME = 'spiffe://';
const PRINTABLE_ASCII = /^[\x21-\x7e]*$/;
const SEGMENT = /^[A-Za-z0-9._-]+$/;

/** Parses a SPIFFE ID. Scheme and trust domain may come in any case and are lowered. Throws `invalid_argument`, reason `spiffe_id_invalid`. */
export function parseSpiffeId(text: string): SpiffeId {
  if (text.length > MAX_SPIFFE_ID_BYTES)
    throw invalid(`${text.slice(0, 60)}…`, `it is longer than ${MAX_SPIFFE_ID_BYTES} bytes`);
  // Lowering turns some letters beyond ASCII into ASCII ones: the Kelvin sign becomes k.
  if (!PRINTABLE_ASCII.test(text)) throw invalid(text, 'it holds a character that is not printable ASCII');
  if (text.slice(0, SCHEME.length).toLowerCase() !== SCHEME)
    throw invalid(text, 'the scheme must be spiffe://');
  const slash = text.indexOf('/', SCHEME.length);
  const authority = slash < 0 ? text.slice(SCHEME.length) : text.slice(SCHEME.length, slash);
  if (authority === '') throw invalid(text, 'trust domain is missing');
  const trustDomain = parseAuthority(text, authority);
  const path = slash < 0 ? '' : text.slice(slash);
  if (path !== '') requirePath(text, path);
  return `${SCHEME}${trustDomain}${path}` as SpiffeId;
}

/** The SPIFFE ID of `path` (with its leading slash, or empty) in a trust domain. Throws like `parseSpiffeId`. */
export function buildSpiffeId(trustDomain: TrustDomain, path: string): SpiffeId {
  // Without its slash a path would lengthen the trust domain.
  if (path !== '' && !path.startsWith('/'))
    throw invalid(`${SCHEME}${trustDomain}${path}`, 'the path must begin with a slash');
  return parseSpiffeId(`${SCHEME}${trustDomain}${path}`);
}

/** The trust domain that a SPIFFE ID belongs to. */
export function trustDomainOf(id: SpiffeId): TrustDomain {
  const slash = id.indexOf('/', SCHEME.length);
  return (slash < 0 ? id.slice(SCHEME.length) : id.slice(SCHEME.length, slash)) as TrustDomain;
}

/** The path with its leading slash, or the empty string for the ID of the trust domain itself. */
export function pathOf(id: SpiffeId): string {
  const slash = id.indexOf('/', SCHEME.length);
  return slash < 0 ? '' : id.slice(slash);
}

function parseAuthority(text: string, authority: string): TrustDomain {
  try {
    return parseTrustDomain(authority.toLowerCase());
  } catch (cause) {
    throw invalid(text, 'the trust domain is not valid', cause);
  }
}

function requirePath(text: string, path: string): void {
  for (const segment of path.slice(1).split('/')) {
    if (segment === '') throw invalid(text, 'a path segment is empty');
    if (segment === '.' || segment === '..') throw invalid(text, 'a path segment is a dot segment');
    if (!SEGMENT.test(segment))
      throw invalid(
        text,
        'a path segment holds a character other than letters, digits, dot, dash and underscore',
      );
  }
}

function invalid(text: string, why: string, cause?: unknown): PicketError {
  return new PicketError(
    'invalid_argument',
    'spiffe_id_invalid',
    `Cannot parse SPIFFE ID "${text}": ${why}`,
    { cause },
  );
}
