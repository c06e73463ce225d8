import { PicketError } from '../errors/errors.ts';

declare const trustDomainBrand: unique symbol;

/** The name of a trust domain, lower case, as in the authority of a SPIFFE ID (SPIFFE-ID.md 2.1). */
export type TrustDomain = string & { readonly [trustDomainBrand]: true };

const MAX_TRUST_DOMAIN_BYTES = 255;
const TRUST_DOMAIN = /^[a-z0-9._-]+$/;

/** Parses a trust domain name. Throws `invalid_argument` with reason `trust_domain_invalid`. */
export function parseTrustDomain(text: string): TrustDomain {
  if (text.length === 0) throw invalid(text, 'it is empty');
  if (text.length > MAX_TRUST_DOMAIN_BYTES)
    throw invalid(`${text.slice(0, 40)}…`, `it is longer than ${MAX_TRUST_DOMAIN_BYTES} bytes`);
  if (!TRUST_DOMAIN.test(text))
    throw invalid(text, 'only lower-case letters, digits, dot, dash and underscore may stand in it');
  return text as TrustDomain;
}

function invalid(text: string, why: string): PicketError {
  return new PicketError(
    'invalid_argument',
    'trust_domain_invalid',
    `Cannot parse trust domain "${text}": ${why}`,
  );
}
